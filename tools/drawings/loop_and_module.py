"""The plain loop of lesson 1 beside the LightningModule of lesson 2."""

from __future__ import annotations

from drawings.sheet import Sheet

# lines of lesson 1, in their order; what replaces them; whether you write that
ROWS = [
    (["network = make_network()"], ["__init__"], True),
    (["torch.optim.Adam(...)"], ["configure_optimizers"], True),
    (["for epoch in range(...):"], ["fit, with max_epochs"], False),
    (["network.train(), eval()", "torch.no_grad()"], ["fit and test"], False),
    (["for images, labels in loader:"], ["fit and test"], False),
    (["logits = network(images)"], ["forward"], True),
    (["F.cross_entropy(...)"], ["training_step,", "validation_step,", "test_step"], True),
    (["optimizer.zero_grad()", "loss.backward()", "optimizer.step()"], ["fit"], False),
    (["total_loss += ...", "total_loss / num_images"], ["self.log(...,", "on_epoch=True)"], True),
    (["print(...)"], ["on_train_epoch_end"], True),
]
GAP = 8


def draw() -> Sheet:
    heights = [9 + 17 * max(len(old), len(new)) for old, new, _ in ROWS]
    sheet = Sheet(
        "Where each line of lesson 1's loop goes in lesson 2",
        91 + sum(heights) + GAP * len(ROWS),
    )
    sheet.text(10, 22, "lesson 1: loop", "bold")
    sheet.text(236, 22, "lesson 2: module", "bold")
    y = 32
    for (old, new, yours), height in zip(ROWS, heights):
        sheet.box(10, y, 210, height, *old, left=True)
        sheet.arrow((220, y + height / 2), (236, y + height / 2))
        sheet.box(236, y, 154, height, *new, look="amber" if yours else "idle")
        y += height + GAP
    sheet.box(10, y + 8, 210, 40, "you write it, in the", "LightningModule", look="amber")
    sheet.box(236, y + 8, 154, 40, "Lightning does it,", "in the Trainer", look="idle")
    return sheet
