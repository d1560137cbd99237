"""Mistakes in settings end in one sentence each, before anything is submitted: make test-fast."""

import re

import pytest

from src.config.compose import compose_runs
from src.config.problems import SettingsError

# words of the command line -> what the only line says
WORDS = {
    "a key at the top": ("sed=1", "command line: sed is not a setting; did you mean seed?"),
    "a key in a group": ("trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
    "a key deep in a group": (
        "callbacks.stop._target_.x=1",
        "callbacks.stop._target_={'x': 1} is not text",
    ),
    "a key in the wrong group": ("trainer.devices=2", "did you mean slurm.devices?"),
    "an argument of a class": (
        "optimizer.wieght_decay=0.1",
        "did you mean optimizer.weight_decay?",
    ),
    "an argument of the network": ("network.width=3", "is not an argument of src.networks.resnet"),
    "an argument of the data": ("data.shiftt=3", "is not an argument of src.datasets.cifar10"),
    "a plus": ("+typo=1", "typo is not a setting"),
    "two pluses": ("++trainer.typo=1", "trainer.typo is not a setting"),
    "a tilde": ("~network", "'~network' removes a setting: choose another file"),
    "a package": ("network@data=resnet18", "names a package after @"),
    "no value": ("seed", "'seed' is neither an option nor key=value"),
    "an empty value": ("seed=", "seed='' is not a whole number"),
    "a bracket": ("stage=[fit", "cannot be read"),
    "text for a number": (
        "trainer.max_epochs=ten",
        "trainer.max_epochs='ten' is not a whole number",
    ),
    "a fraction of an epoch": ("trainer.max_epochs=1.5", "is not a whole number"),
    "a number for text": ("experiment_name=7", "experiment_name=7 is not text: put it in quotes"),
    "text for true or false": ("plots=maybe", "plots='maybe' must be true or false"),
    "a group for a number": ("seed={a: 1}", "is not a whole number"),
    "a number for a group": ("trainer=3", "has no file configs/trainer/3.yaml"),
    "a negative number": ("trainer.max_epochs=-1", "trainer.max_epochs=-1 must be at least 1"),
    "zero": ("data.batch_size=0", "data.batch_size=0 must be at least 1"),
    "nan": ("data.val_split=nan", "data.val_split=nan"),
    "nan for a class": ("optimizer.lr=nan", "optimizer.lr=nan is not a finite number"),
    "infinity": ("optimizer.lr=inf", "optimizer.lr=inf is not a finite number"),
    "a negative rate": ("optimizer.lr=-0.1", "optimizer.lr=-0.1 must be greater than 0"),
    "a negative decay": (
        "optimizer.weight_decay=-1",
        "optimizer.weight_decay=-1 must be at least 0",
    ),
    "a huge seed": ("seed=99999999999", "must be at most 4294967295"),
    "a folder of a class that has none": (
        "data=image_folder data.path=configs data.data_dir=data",
        "data.data_dir='data' is not an argument of src.datasets.image_folder",
    ),
    "weights of classes in a regression": (
        "model=regressor loss=mse class_weights=balanced",
        "class_weights='balanced' cannot be used",
    ),
    "a word": (
        "data=image_folder data.path=configs data.fit=strtch",
        "data.fit='strtch' must be one of",
    ),
    "a share above one": ("data.val_split=1.5", "must be less than 1"),
    "batches out of range": ("trainer.limit_train_batches=1.5", "is not a fraction of the batches"),
    "a stage": (
        "stage=[fit,tset]",
        "must be 'fit', 'validate', 'test' or 'predict'; did you mean test?",
    ),
    "a precision": ("trainer.precision=16-mixd", "did you mean 16-mixed?"),
    "a time": ("slurm.time_min=soon", "slurm.time_min='soon' is not a time"),
    "an address": ("slurm.email=me", "slurm.email='me' is not an e-mail address"),
    "a name of a folder": ("experiment_name=a/b", "is not a name of up to 64 letters"),
    "a path that is a URL": ("log_path=s3://x", "URLs are not allowed"),
    "a missing file": (
        "network=resnet33",
        "has no file configs/network/resnet33.yaml; did you mean resnet",
    ),
    "a missing experiment": ("experiment=mine", "experiment=mine has no file"),
    "an unknown class": (
        "optimizer._target_=torch.optim.Adm",
        "torch.optim has no Adm; did you mean Adam?",
    ),
    "an unknown module": (
        "network._target_=torchvision.modls.vgg11",
        "there is no module torchvision.modls",
    ),
    "a package that is missing": (
        "trusted=[tmm] network=tmm.models.x",
        "the package tmm is not installed",
    ),
    "a forbidden module": ("network=os.system", "='os.system' is not in a trusted package"),
    "a forbidden function": ("loss=torch.load", "='torch.load' is a function"),
    "a function of the program": (
        "callbacks.a={_target_: src.launch.processes.start_processes, devices: 2, words: [x]}",
        "is not in src.callbacks, src.datasets, src.models, src.networks",
    ),
    "what the program imports": (
        "network=src.utils.targets.import_module",
        "is not in src.callbacks, src.datasets, src.models, src.networks",
    ),
    "a function that networks use": (
        "network=torchvision.models._api.load_state_dict_from_url",
        "is a function: only a class may be named here",
    ),
    "no path within a class": (
        "callbacks.a={_target_: lightning.pytorch.callbacks.Timer, duration: {_target_: Day}}",
        "callbacks.a.duration._target_='Day' is not the path of a class",
    ),
    "an argument that is nearly one": (
        "network=mobilenet_v3_small network.droppout=0.5",
        "network.droppout=0.5 is not an argument of torchvision.models.mobilenet_v3_small; did you"
        " mean network.dropout?",
    ),
    "a loss of classes for numbers": (
        "data=image_folder data.path=configs model=regressor",
        "is for classes: for a regression, use loss=mse",
    ),
    "an argument without its class": ("lr=0.1", "did you mean optimizer.lr?"),
    "a file with its ending": ("network=resnet34.yaml", "leave out .yaml"),
    "data that are missing": ("data.data_dir=nowhere", "is not a folder"),
    "no path at all within a class": (
        "callbacks.a={_target_: lightning.pytorch.callbacks.Timer, duration: {_target_: null}}",
        "callbacks.a.duration._target_=null is not the path of a class",
    ),
    "a network that has another name": ("network.arch=resnet19", "must be one of 'resnet18'"),
    "weights of no class": ("class_weights=[]", "class_weights"),
    "stages in another order": ("stage=[test,fit]", "must have each stage once, in this order"),
    "a stage that is there twice": ("stage=[fit,fit]", "must have each stage once"),
    "images without their stage": ("predict=configs", "is used only with stage=predict"),
    "a fold of no folds": ("data.fold=2", "is used only with data.folds"),
    "workers that cannot be divided": (
        "data.num_workers=3 slurm.devices=2",
        "data.num_workers=3 is not divisible by slurm.devices=2",
    ),
    "a folder that is missing": ("data=image_folder data.path=none", "is not a folder"),
    "a key that is there twice": ("seed=1 seed=2", "seed=... is there twice"),
    "no path of a class": ("loss._target_=CrossEntropyLoss", "is not the path of a class"),
    "a wrong type for a class": (
        "optimizer.weight_decay=x",
        "optimizer.weight_decay='x' is not a number",
    ),
    "a class without its arguments": (
        "schedule=torch.optim.lr_scheduler.StepLR",
        "schedule.step_size has no value, and torch.optim.lr_scheduler.StepLR needs one",
    ),
    "a cycle": ("seed=${trainer.max_epochs} trainer.max_epochs=${seed}", "refers to itself"),
    "a variable that is not set": (
        "log_path=${oc.env:NOT_SET_HERE}",
        "log_path needs the environment variable NOT_SET_HERE, which is not set",
    ),
    "a reference to nothing": ("seed=${sede}", "seed cannot be resolved: "),
    "a batch that cannot be divided": (
        "slurm.devices=3",
        "data.batch_size=64 is not divisible by 3",
    ),
    "a fold that does not exist": ("data.folds=3 data.fold=3", "data.fold=3 must be less than"),
    "a checkpoint that is missing": ("stage=test ckpt=none.ckpt", "ckpt='none.ckpt' is not a file"),
    "a test without a checkpoint": ("stage=test", "ckpt has no value: without fit, set it"),
    "images that are missing": ("stage=[fit,predict] predict=none", "which does not exist"),
    "half precision on a CPU": (
        "trainer.accelerator=cpu trainer.precision=16-mixed",
        "trainer.precision='16-mixed' needs a GPU",
    ),
}
# what the file experiment/mine.yaml says -> the line of the mistake, and what the message says
FILES = {
    "a key": ("trainer:\n  max_epoch: 3", 3, "did you mean trainer.max_epochs?"),
    "yes and no": ("slurm:\n  signal: no", 3, "YAML reads yes, no, on and off as true or false"),
    "a tab": ("trainer:\n\tmax_epochs: 3", 3, "indent with spaces, not with tabs"),
    "a key that is there twice": ("seed: 1\nseed: 2", 3, "is not YAML: found duplicate key"),
    "a list that is open": ("stage: [fit\nseed: 1", 3, "is not YAML"),
    "text that looks like a number": ("trainer:\n  max_epochs: '3'", 3, "is not a whole number"),
    "a float that is text": ("optimizer:\n  lr: '1e-3'", 3, "optimizer.lr='1e-3' is not a number"),
    "a variable that is not set": ("log_path: ${oc.env:NOT_SET_HERE}", 2, "which is not set"),
    "a cycle": (
        "seed: ${trainer.max_epochs}\ntrainer:\n  max_epochs: ${seed}",
        None,
        "refers to itself",
    ),
    "packages of its own, merged": ("<<: [{trusted: [os]}]", 2, "names more than one group"),
    "a file for a group": ("data: cifar10", 2, "write - override /data: cifar10 under defaults"),
    "a package of its own": (
        "trusted: [os]",
        2,
        "only in configs/config.yaml or on the command line",
    ),
    "a file that is missing": (
        "defaults:\n  - override /optimizer: sgd\n  - override /network: resnet19",
        4,
        "network=resnet19 has no file configs/network/resnet19.yaml; did you mean resnet18?",
    ),
    "a folder that is missing": (
        "defaults:\n  - override /netwurk: resnet18",
        3,
        "configs has no folder netwurk; did you mean network?",
    ),
    "a file without its folder": (
        "defaults: [cifar10_resnet19]",
        2,
        "did you mean cifar10_resnet18?",
    ),
    "a choice without override": (
        "defaults:\n  - /network: resnet34",
        3,
        "write - override /network: resnet34",
    ),
    "a choice without its slash": (
        "defaults:\n  - override network: resnet34",
        3,
        "write - override /network: resnet34",
    ),
    "a choice without a file": ("defaults:\n  - override /network", 3, "names no file"),
    "a dash that is missing": (
        "defaults:\n  - override /network: resnet34\n    override /optimizer: sgd",
        3,
        "write a dash before each",
    ),
    "no list of defaults": ("defaults: resnet34", 2, "defaults must be a list"),
    "a number for a file": ("defaults:\n  - 3", 3, "3 is not a file"),
    "no settings": ("- 1", None, "mine"),
}


def problems(words, config_dir=None):
    with pytest.raises(SettingsError) as error:
        compose_runs(words, config_dir)
    assert error.value.code == 2
    return error.value.problems


@pytest.mark.parametrize("name", WORDS)
def test_a_mistake_on_the_command_line_is_one_sentence(name):
    words, expected = WORDS[name]

    found = problems(re.split(r" (?=[\w.]+=)", words))

    matching = [line for line in found if expected in line]
    assert matching, found
    assert len(found) == len(matching), found
    assert all("\n" not in line and len(line) < 400 for line in found)


@pytest.mark.parametrize("name", FILES)
def test_a_mistake_in_a_file_names_file_and_line(name, tmp_path):
    text, line, expected = FILES[name]
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    file.write_text(f"# @package _global_\n{text}\n")

    found = problems(["experiment=mine"], tmp_path)

    assert any(expected in sentence for sentence in found), found
    if line:
        assert any(sentence.startswith(f"{file}:{line}: ") for sentence in found), found
    assert all("\n" not in sentence and len(sentence) < 500 for sentence in found)


def test_files_outside_are_not_read(tmp_path):
    (tmp_path / "secret.yaml").write_text("token: abc\n")
    file = tmp_path / "mine/experiment/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\ndefaults:\n  - /../secret@network\n")

    [problem] = problems(["experiment=mine"], tmp_path / "mine")

    assert "is not in a folder of configs" in problem
    assert "abc" not in problem


def test_all_mistakes_are_named_at_once(tmp_path):
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nsede: 1\noptimizer:\n  lr: fast\n")

    found = problems(["experiment=mine", "trainer.max_epochs=-1", "network.depth=3"], tmp_path)

    starts = ("command line: trainer.max_epochs=-1", "command line: network.depth",
              f"{file}:2: sede", f"{file}:4: optimizer.lr='fast'")  # fmt: skip
    assert sorted(found) == sorted(s for s in found if s.startswith(starts))
    assert len(found) == 4


def test_a_time_in_a_file_needs_no_quotes(tmp_path):
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nslurm:\n  time_min: 1:30:00\n")

    [run] = compose_runs(["experiment=mine"], tmp_path)

    assert run.values["slurm"]["time_min"] == 90


def test_what_is_right_is_not_refused():
    words = ["network=torchvision.models.resnet18", "optimizer.weight_decay=1e-4", "stage=fit"]
    [run] = compose_runs([*words, "slurm.time_min=1-02:00:00", "data.val_split=0.5"])

    assert run.values["network"] == {"_target_": "torchvision.models.resnet18"}
    assert run.values["optimizer"]["weight_decay"] == 1e-4
    assert run.values["slurm"]["time_min"] == 26 * 60
    assert run.values["stage"] == ["fit"]
