"""Which file wins (lesson 10)."""

from __future__ import annotations

from drawings.sheet import Sheet

COLUMNS = {"max_epochs": 236, "lr": 311, "weight_decay": 362}
# the places, the highest first, and what each sets
PLACES = [
    ("command line", "trainer.max_epochs=3", {"max_epochs": "3"}),
    ("experiment", "experiment/mine.yaml", {"max_epochs": "5", "lr": "0.002"}),
    ("later in the list", "trainer/default.yaml", {"max_epochs": "10"}),
    ("earlier in the list", "optimizer/adamw.yaml", {"lr": "0.001", "weight_decay": "0.01"}),
]


def draw() -> Sheet:
    sheet = Sheet("Which of four places decides three settings of a run", 372)
    sheet.text(236, 22, "max_epochs", "middle")
    sheet.text(311, 22, "lr", "middle")
    sheet.text(362, 16, "weight_", "middle")
    sheet.text(362, 31, "decay", "middle")
    decided: dict[str, str] = {}
    for row, (name, file, settings) in enumerate(PLACES):
        y = 38 + 62 * row
        sheet.box(30, y, 362, 52, f"*{name}", file, left=True)
        for setting, value in settings.items():
            x = COLUMNS[setting]
            wins = setting not in decided
            sheet.text(x, y + 31, value, f"{'strong' if wins else 'crossed'} middle")
            if wins:
                decided[setting] = value
                width = max(36, 10 + 8 * len(value))
                sheet.rect(x - width / 2, y + 13, width, 28, "mark")
    sheet.text(30, 297, "A higher place overrides a lower one.")
    sheet.arrow((14, 276), (14, 44))
    sheet.box(30, 306, 362, 52, "*config.yaml", "the job reads only this", look="result", left=True)
    for setting, value in decided.items():
        sheet.text(COLUMNS[setting], 338, value, "strong middle")
    return sheet
