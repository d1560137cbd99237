"""How jobs end whose training does not finish: make test."""

import pytest

from clone import ARGUMENTS_LESSON
from page_rows import shows
from practice_cluster import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAST = ["--arch=fully_connected", "--max_epochs=500"]
LESSON_1, LESSON_2, LESSON_3 = (
    "1-simple-model-training",
    "2-lightning-module",
    "3-improved-data-loading",
)
BY_SBATCH = [LESSON_1, LESSON_2, LESSON_3]
BY_RUN_PY = ["5-improved-logging", ARGUMENTS_LESSON]
# a ResNet would take long until the step of the fault; lesson 5 has none
SMALL = {BY_RUN_PY[0]: [], BY_RUN_PY[1]: ["--arch=fully_connected"]}
# the last lesson whose jobs do not requeue themselves
EIGHT = "8-distributed-training"


def start_training(login_node, branch):
    """Start a long training, and return the job once it has trained one epoch."""
    login_node.clone.git("switch", "--quiet", branch)
    program = login_node.folder / "src/main.py"
    program.write_text(program.read_text().replace("max_epochs=10,", "max_epochs=500,"))
    job = login_node.submit_run_sh(branch)
    wait_until(lambda: "epoch  1/" in login_node.run_sh_log(job), 120, "the first epoch")
    return job


@pytest.mark.parametrize("branch", BY_SBATCH)
def test_f10_a_signalled_step_is_not_completed_in_lessons_1_to_3(login_node, page, branch):
    job = start_training(login_node, branch)

    login_node.run(["scancel", "--signal=TERM", f"{job}.0"])
    login_node.wait(job)

    log = login_node.run_sh_log(job)
    assert login_node.accounting_state(job) == "FAILED"
    assert "test loss" not in log
    assert not list(login_node.folder.glob("lightning_logs/*/DONE.json"))
    page("A process was ended by SIGTERM", log)


@pytest.mark.parametrize(
    ("signal", "branch"),
    [*((name, ARGUMENTS_LESSON) for name in ("TERM", "INT", "KILL")), ("USR1", EIGHT)],
)
def test_f10_a_training_ended_by_a_signal_is_not_completed(login_node, page, signal, branch):
    login_node.clone.git("switch", "--quiet", branch)
    [job] = login_node.launch_jobs("--num_nodes=2", *FAST)
    login_node.wait_for_training(job)

    login_node.run(["scancel", f"--signal={signal}", f"{job}.0"])
    log = login_node.wait_for_failure(job)

    sentences = {
        "TERM": "A process was ended by SIGTERM",
        "KILL": "A process was killed",
        "USR1": "A process was ended by SIGUSR1",
    }
    if signal == "INT":
        assert "interrupted" in log
    else:
        page(sentences[signal], log)


def test_f10_a_cancelled_job_is_not_completed(login_node):
    [job] = login_node.launch_jobs("--num_nodes=2", *FAST)
    login_node.wait_for_training(job)

    login_node.run(["scancel", job])

    login_node.wait_for_failure(job)
    assert login_node.accounting_state(job) == "CANCELLED"


def test_f10_a_job_at_its_time_limit_is_not_completed(login_node, page):
    login_node.clone.git("switch", "--quiet", EIGHT)
    [job] = login_node.launch_jobs(*FAST)
    login_node.wait_for_training(job)

    # an earlier end of the time: the shortest limit of a submission is a minute
    login_node.run(["scontrol", "update", f"jobid={job}", "EndTime=now+1"])
    log = login_node.wait_for_failure(job)

    page("The time was too short", log)
    shows("lessons/7", "the job ends with state", login_node.accounting_state(job))


@pytest.mark.parametrize("branch", BY_RUN_PY)
def test_f10_a_training_that_raises_is_not_completed(login_node, inject_fault, page, branch):
    login_node.clone.git("switch", "--quiet", branch)
    inject_fault("raise ValueError('boom')")

    [job] = login_node.launch_jobs(*SMALL[branch])

    page("The program has a mistake", login_node.wait_for_failure(job))


@pytest.mark.parametrize("branch", BY_RUN_PY)
def test_f10_a_training_over_its_memory_limit_is_not_completed(
    login_node, inject_fault, page, branch
):
    login_node.clone.git("switch", "--quiet", branch)
    inject_fault("hog = b'x' * 3 * 2**30; time.sleep(60)")

    [job] = login_node.launch_jobs("--mem_gb=2", *SMALL[branch])

    page("The memory was too small", login_node.wait_for_failure(job))


def test_f10_a_training_that_diverges_is_not_completed(login_node, page):
    [job] = login_node.launch_jobs(
        "--optimizer=SGD", "--learning_rate=1000", "--arch=fully_connected", "--max_epochs=1"
    )

    login_node.wait(job)

    assert login_node.accounting_state(job) == "FAILED"
    assert not list(login_node.folder.glob("*logs/**/DONE.json"))
    page("The training has diverged", login_node.log(job, "err"))


def test_f10_a_finished_training_writes_done_json(login_node):
    job = login_node.submit_run_sh(LESSON_2)

    assert login_node.wait(job) == "COMPLETED"

    done = (login_node.folder / f"lightning_logs/version_{job}/DONE.json").read_text()
    assert '"steps": 220' in done  # 10 epochs of 1350 images, 64 per step
    assert '"test_acc": 0.9' in done


@pytest.mark.parametrize("branch", [*BY_SBATCH, EIGHT])
def test_f6_a_restarted_job_keeps_its_first_log(login_node, branch):
    if branch in BY_SBATCH:
        job, log = start_training(login_node, branch), login_node.run_sh_log
        if branch != LESSON_1:
            done = login_node.folder / f"lightning_logs/version_{job}/DONE.json"
            done.write_text("of an earlier start")
    else:
        login_node.clone.git("switch", "--quiet", branch)
        [job] = login_node.launch_jobs(*FAST)
        login_node.wait_for_training(job)
        log = login_node.log
        done = login_node.folder / "logs/cifar10/version_0/DONE.json"
        done.write_text("of an earlier start")

    login_node.run(["scontrol", "requeue", job])
    login_node.wait_for_restart(job)
    wait_until(lambda: log(job).count("epoch  1/") == 2, 120, "the first epoch of the second start")
    login_node.run(["scancel", job])
    login_node.wait(job)

    assert login_node.accounting_state(job) == "CANCELLED"
    assert log(job).count("data: ") == 2
    if branch != LESSON_1:
        assert not done.exists()
        assert (done.parent / "earlier_1/DONE.json").read_text() == "of an earlier start"
