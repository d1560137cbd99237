"""What happens at a time limit (lesson 9)."""

from __future__ import annotations

from drawings.sheet import Sheet

# the states of the job: from, to, what it says, look
STATES = [
    (34, 252, ("*RUNNING", "", "the first", "attempt"), "blue"),
    (264, 330, ("*PENDING",), "idle"),
    (342, 462, ("*RUNNING", "", "the second", "attempt"), "blue"),
]
# where and what it is; ->: to the job, <-: from the job
EVENTS = [
    (70, "<-", ("*last.ckpt", "saved after each epoch")),
    (124, "->", ("*SIGUSR1", "Slurm sends it two minutes", "before the time limit")),
    (
        186,
        "<-",
        ("*last.ckpt", "between two batches, all ranks", "agree to stop, and save together"),
    ),
    (240, "<-", ("*scontrol requeue", "by rank 0; Slurm ends the job")),
    (297, "--", ("*the same job id and folder", "waits two minutes or longer")),
    (364, "->", ("*last.ckpt", "continues at the step", "where it was saved")),
    (436, "<-", ("*DONE.json", "if the last epoch is reached;", "otherwise, the same again")),
]


def draw() -> Sheet:
    sheet = Sheet("How a training continues after the time limit of its job", 484)
    sheet.text(57, 22, "the job", "bold middle")
    sheet.text(146, 22, "what happens", "bold")
    for top, bottom, words, look in STATES:
        sheet.box(10, top, 94, bottom - top, *words, look=look)
    for y, direction, words in EVENTS:
        job, event = (104, y), (138, y)
        ends = (event, job) if direction == "->" else (job, event)
        sheet.line(*ends, head=direction != "--")
        sheet.lines(146, y - 17 * len(words) / 2 + 13, *words)
    sheet.arrow((57, 252), (57, 264))
    sheet.arrow((57, 330), (57, 342))
    return sheet
