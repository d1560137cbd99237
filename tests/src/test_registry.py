"""src/utils/registry.py: data sets and networks by the names of their files: make test-fast."""

import sys
from types import SimpleNamespace

import pytest

from src.utils import registry
from src.utils.errors import UserError

RAISES = 'raise RuntimeError("imported")\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a function that writes files, given as name=text, into a separate src."""
    monkeypatch.setattr(registry, "SRC", tmp_path / "src")

    def write(folder, **files):
        for name, text in files.items():
            path = tmp_path / "src" / folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def refusal(function, *args):
    with pytest.raises(UserError) as error:
        function(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_files_of_the_course_are_listed():
    assert set(registry.names("datasets")) - {"bolts"} == {"cifar10", "mnist"}
    assert registry.names("networks") == [
        *("fully_connected", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    ]


def test_a_file_is_listed_without_being_imported(folder):
    folder("networks", plain=RAISES, several=f'{RAISES}NAMES = ["small", "large"]\n')

    assert registry.names("networks") == ["plain", "small", "large"]
    assert registry.source("networks", "large").name == "several.py"
    assert registry.source("networks", "several") is None


def test_the_arguments_of_a_file_are_read_without_importing_it(folder):
    own = {"width": {"default": 32, "help": "channels of the first layer"}}
    folder("networks", wide=f"{RAISES}ARGUMENTS = {own}\n", plain=RAISES)

    wide, plain = (registry.source("networks", name) for name in ("wide", "plain"))

    assert registry.constant(wide, "ARGUMENTS", {}) == own
    assert registry.constant(plain, "ARGUMENTS", {}) == {}


def test_the_requirement_of_a_file_is_read_without_importing_it(folder):
    folder(
        "datasets",
        lacking=f'{RAISES}NEEDS = "no_such_package"\n',
        there=f'{RAISES}NEEDS = "torch"\n',
    )

    assert registry.names("datasets") == ["there"]


def test_a_file_that_is_not_python_is_listed_and_reported_on_use(folder):
    folder("networks", broken="def broken(:\n")

    assert registry.names("networks") == ["broken"]


@pytest.mark.parametrize("name", ["my-network", "2_layers", "my network"])
def test_a_file_that_cannot_be_imported_is_refused(folder, name):
    folder("networks", **{name: "", "good": ""})

    with pytest.raises(UserError, match=f"src/networks/{name}.py would be ignored: its name must"):
        registry.names("networks")


def test_files_that_cannot_be_chosen_are_not_listed(folder):
    folder("networks", __init__="", _private="", good="")
    folder("datasets", image_data_module="", photos="")

    assert registry.names("networks") == ["good"]
    assert registry.names("datasets") == ["photos"]


def test_two_files_with_the_same_name_are_refused_and_both_are_named(folder):
    folder("networks", first='NAMES = ["small"]\n', small="", third="")

    message = refusal(registry.names, "networks")

    assert message == (
        "src/networks/first.py and src/networks/small.py both offer the name 'small': rename one"
    )


@pytest.mark.parametrize("file", ["ResNet18", "resnet_18"])
def test_names_that_differ_in_case_or_underscores_only_are_refused(folder, file):
    folder("networks", resnet='NAMES = ["resnet18"]\n', **{file: ""})

    message = refusal(registry.names, "networks")

    assert f"src/networks/{file}.py" in message
    assert "src/networks/resnet.py" in message
    assert "both offer the name " in message


def test_a_network_in_the_folder_of_the_classifier_is_refused(folder):
    folder("networks", resnet='NAMES = ["resnet18"]\n')
    folder("models", lightning_classifier="", resnet18="")

    message = refusal(registry.names, "networks")

    assert message == "src/models/resnet18.py would be ignored: move it to src/networks"


def test_a_name_may_appear_twice_in_the_same_file(folder):
    folder("networks", first='NAMES = ["small", "small"]\n')

    assert registry.names("networks") == ["small"]


@pytest.mark.parametrize("installed", [True, False])
def test_bolts_is_offered_only_with_its_package(monkeypatch, installed):
    monkeypatch.setattr(registry, "find_spec", lambda name: object() if installed else None)

    assert ("bolts" in registry.names("datasets")) is installed


@pytest.mark.parametrize("constant", ["NAMES", "ARGUMENTS", "NEEDS"])
@pytest.mark.parametrize("text", ["[f'resnet{n}' for n in (18, 34)]", "OTHER", "dict(width=3)"])
def test_a_constant_that_is_not_a_literal_is_reported_in_one_sentence(folder, constant, text):
    folder("networks", clever=f"{constant} = {text}\n")
    file = registry.SRC / "networks/clever.py"

    message = refusal(registry.constant, file, constant, None)

    assert message == f"{constant} in src/networks/clever.py must be a literal"


def test_an_unknown_name_lists_the_known_ones(folder):
    folder("networks", plain="", several='NAMES = ["small", "large"]\n')

    message = refusal(registry.find, "networks", "resnet19")

    assert message == "src/networks has no 'resnet19': choose from plain, small, large"


# --- what a name stands for


class SmallCNN:
    def __init__(self, *args):
        self.args = args


def module(monkeypatch, name, **content):
    monkeypatch.setitem(sys.modules, f"src.{name}", SimpleNamespace(**content))


@pytest.mark.parametrize("file", ["small_cnn", "SmallCNN", "resnet_small"])
def test_a_custom_network_is_found_by_the_name_of_its_file(monkeypatch, folder, file):
    folder("networks", **{file: ""})
    class_name = "ResNetSmall" if "resnet" in file else "SmallCNN"
    module(monkeypatch, f"networks.{file}", **{class_name: SmallCNN})

    made = registry.find("networks", file)((3, 32, 32), 10)

    assert isinstance(made, SmallCNN)
    assert made.args == ((3, 32, 32), 10)


def test_a_custom_data_set_is_found_by_the_name_of_its_file(monkeypatch, folder):
    folder("datasets", my_photos="")
    module(monkeypatch, "datasets.my_photos", MyPhotos=int, MyPhotosDataModule=SmallCNN)

    assert registry.find("datasets", "my_photos") is SmallCNN


def test_a_file_with_several_names_gets_the_chosen_one(monkeypatch, folder):
    folder("networks", several='NAMES = ["small", "large"]\n')
    module(monkeypatch, "networks.several", several=SmallCNN)

    made = registry.find("networks", "large")((3, 32, 32), 10)

    assert made.args == ("large", (3, 32, 32), 10)


def test_a_file_without_its_class_says_what_it_must_have(monkeypatch, folder):
    folder("datasets", my_photos="")
    module(monkeypatch, "datasets.my_photos", Photos=SmallCNN)

    message = refusal(registry.find, "datasets", "my_photos")

    assert message.startswith("src/datasets/my_photos.py has no class myphotosdatamodule: ")
    assert message.endswith("such as MyPhotosDataModule")


def test_a_missing_package_is_named(monkeypatch, folder):
    folder("networks", lacking="")

    def not_there(name):
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr(registry, "import_module", not_there)

    message = refusal(registry.find, "networks", "lacking")

    assert message == "src/networks/lacking.py needs timm, which is not installed"
