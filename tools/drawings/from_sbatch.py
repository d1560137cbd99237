"""From sbatch to the log file (lesson 1)."""

from __future__ import annotations

from drawings.sheet import Sheet


def draw() -> Sheet:
    sheet = Sheet("The way of a job from sbatch to its log file", 374)
    sheet.box(110, 8, 180, 60, "*controller", "slurmctld keeps the", "queue of all jobs")
    sheet.box(10, 128, 150, 76, "*login node", "you type", "sbatch run.sh", look="amber")
    sheet.box(
        *(200, 128, 190, 94),
        *(
            "*compute node",
            "slurmd runs a copy of",
            "run.sh, whose srun starts",
            "python -m src.main",
        ),
        look="blue",
    )
    sheet.box(
        *(10, 298, 380, 68),
        *("*shared file system", "the program, the data, and", "the log: slurm.<job id>.out"),
    )
    sheet.arrow((60, 128), (60, 38), (110, 38))
    sheet.text(70, 104, "1 the job")
    sheet.arrow((290, 38), (350, 38), (350, 128))
    sheet.lines(340, 95, "2 when CPUs and", "memory are free", look="end")
    sheet.arrow((232, 298), (232, 222))
    sheet.lines(222, 256, "3 program", "and data", look="end")
    sheet.arrow((290, 222), (290, 298))
    sheet.lines(300, 256, "4 each line", "of the log")
    sheet.arrow((40, 298), (40, 204))
    sheet.lines(50, 247, "5 you read", "it: tail -f")
    return sheet
