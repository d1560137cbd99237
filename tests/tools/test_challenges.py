"""check.py --challenge on states that a learner may leave behind: make test-fast."""

import pytest

from learner import Learner


def challenge(learner, name, **kwargs):
    return learner.check("--challenge", name, **kwargs)


def passes(done, name):
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("PASS ")
    assert done.stdout.endswith(f": challenge {name}\n")


def fails(done, *words):
    assert done.returncode == 1, done.stdout + done.stderr
    starts = [line.partition(":")[0].strip() for line in done.stdout.splitlines()]
    assert starts[1:] == ["found", "expected", "try"]
    for word in words:
        assert word in done.stdout
    assert done.stderr == ""


def test_an_unknown_challenge_is_answered_with_those_of_the_lesson(tmp_path):
    learner = Learner(tmp_path, 1)

    for name in ("overfit", "", "grid"):
        done = challenge(learner, name)
        assert done.returncode == 1
        known = "its challenges: overfitting"
        assert done.stderr.startswith(f"{name!r} is not a challenge of lesson 1; {known}")
        assert done.stderr.count("\n") == 1


# --- lesson 1


def train(learner, losses, line="  best epoch {best}", of=1000, end="", state="CANCELLED"):
    """Write the log of a job with these validation losses."""
    text = "data: MNIST, 4 files checked in /home/ada/data/MNIST\n"
    for number, loss in enumerate(losses, 1):
        best = losses.index(min(losses[:number])) + 1
        numbers = f"train loss 0.1000 acc 0.9000  val loss {loss:.4f} acc 0.9000"
        text += f"epoch {number:2d}/{of}  {numbers}{line.format(best=best)}\n"
    learner.job += 1
    learner.states[learner.job] = state
    (learner.folder / f"slurm.{learner.job}.out").write_text(text + end)


FALLING = [1.0, 0.5, 0.3, 0.2, 0.1]
RISING = [*FALLING, *(0.1 + k / 100 for k in range(1, 11))]


def test_overfitting_that_was_read_and_ended_passes(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.runs()
    train(learner, RISING)
    train(learner, [0.5], line="")  # a later experiment

    passes(challenge(learner, "overfitting"), "overfitting")


def test_either_of_two_equal_losses_is_the_best(tmp_path):
    learner = Learner(tmp_path, 1)
    train(learner, [0.1, 0.1, *(0.2,) * 10])
    log = tmp_path / "slurm.11.out"
    first, *others = log.read_text().partition("epoch  2/")
    # the losses are rounded in the log, so that the second may have been lower
    log.write_text(first + "".join(others).replace("best epoch 1", "best epoch 2"))

    passes(challenge(learner, "overfitting", slurm=False), "overfitting")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"losses": [], "state": "RUNNING"}, ("no epoch line in slurm.11.out", "squeue --me")),
        ({"losses": RISING[:10], "of": 10}, ("10 epochs in slurm.11.out", "more than 10")),
        ({"losses": RISING, "line": ""}, ("the line of epoch 1 ", '"best epoch 1"')),
        ({"losses": RISING, "line": "  best epoch 1"}, ("the line of epoch 2 ", "loss was 0.5")),
        ({"losses": RISING[:9]}, ("0.1, in epoch 5 of 9 so far", "tail -f slurm.11.out")),
        ({"losses": RISING, "state": "RUNNING"}, ("job 11 is RUNNING", "scancel 11")),
        ({"losses": RISING, "state": "FAILED"}, ("job 11 is FAILED", "in state CANCELLED")),
        ({"losses": RISING, "end": "test loss 0.1 acc 0.9\n"}, ("job 11 has reached the test",)),
    ],
)
def test_overfitting_that_is_not_finished_says_what_is_missing(tmp_path, state, words):
    learner = Learner(tmp_path, 1)
    train(learner, **state)

    fails(challenge(learner, "overfitting"), *words)


def test_overfitting_begins_with_the_run_of_the_lesson(tmp_path):
    learner = Learner(tmp_path, 1)

    fails(challenge(learner, "overfitting"), "found:    no run", "raise max_epochs")
    learner.runs()
    fails(challenge(learner, "overfitting"), "FAIL after 0/4", "10 epochs in slurm.11.out")
