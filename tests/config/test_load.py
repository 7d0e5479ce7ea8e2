"""Configs from files, with overrides of the command line."""

from shlex import quote

import pytest
from support.configs import PLAIN
from support.movies import config, write_config

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.load import load_config, parse_config
from pyama_dask.config.models import Params, Storage
from pyama_dask.errors import ConfigError
from pyama_dask.plan.resolve import shared_parameters


class TestFiles:
    def test_paths_count_from_the_folder_of_the_file(self, tmp_path):
        found = load_config(write_config(tmp_path / "run.yaml", config("data/a.nd2", "../out")))
        assert found.input.path == tmp_path / "data" / "a.nd2"
        assert found.output == tmp_path.parent / "out"

    def test_absolute_paths_stay(self, tmp_path):
        found = load_config(write_config(tmp_path / "run.yaml", config("/data/a.nd2", "/out")))
        assert (str(found.input.path), str(found.output)) == ("/data/a.nd2", "/out")

    def test_overrides_take_the_place_of_values_and_of_missing_parts(self, tmp_path):
        path = write_config(tmp_path / "run.yaml", {k: PLAIN[k] for k in ("input", "output", "channels")})
        found = load_config(path, {"params.fovs": "0-2", "params.tracking_params.min_frames": 3, "output": "here"})
        assert found.params.fovs == "0-2"
        assert found.params.tracking_params == {"min_frames": 3}
        assert str(found.output) == "here"  # from the command line: relative to where one stands

    def test_an_override_that_names_another_method_drops_the_parameters_of_the_former_one(self, tmp_path):
        params = {"segmentation_params": {"min_object_size": 9}, "tracking_params": {"min_frames": 3, "min_iou": 0.2}}
        path = write_config(tmp_path / "run.yaml", PLAIN | {"params": params})

        def found(**overrides):
            changed = {f"params.{name}": value for name, value in overrides.items()}
            loaded = load_config(path, changed, shared_parameters()).params
            return loaded.segmentation_params, loaded.tracking_params

        same = (params["segmentation_params"], params["tracking_params"])
        assert found() == found(segmentation_method="logstd", tracking_method="iou") == same
        assert found(segmentation_method="own.py:cut") == ({}, params["tracking_params"])
        assert found(tracking_method="own.py:follow") == (params["segmentation_params"], {"min_frames": 3})
        given = {"segmentation_params.level": 5, "segmentation_method": "own.py:cut"}
        assert found(**given)[0] == {"level": 5}

    def test_an_override_below_a_value_is_refused(self, tmp_path):
        path = write_config(tmp_path / "run.yaml", PLAIN)
        with pytest.raises(ConfigError, match=r"output\.path: 'output' holds a value, not keys"):
            load_config(path, {"output.path": 1})

    def test_an_override_below_a_key_without_value_makes_it(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text("input: a.nd2\noutput: o\nchannels: {pc: {channel: 0}}\nparams:\n")
        assert load_config(path, {"params.fovs": "0"}).params.fovs == "0"

    @pytest.mark.parametrize("part", ["params", "storage", "cluster"])
    def test_a_part_without_values_has_its_defaults(self, tmp_path, part):
        path = tmp_path / "run.yaml"
        path.write_text(f"input: a.nd2\noutput: o\nchannels: {{pc: {{channel: 0}}}}\n{part}:\n")
        try:
            found = load_config(path)
        except ConfigError as refused:  # or it is said which key is empty
            assert f"  {part}: " in str(refused)  # noqa: PT017
        else:
            assert getattr(found, part) == {"params": Params(), "storage": Storage(), "cluster": Cluster()}[part]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"- a\n- b\n", "must hold keys"),
            (b"", "must hold keys"),
            (b"a: [", "is not a YAML config"),
            (b"a: \xff\xfe", "is not a YAML config"),
            (b"params: {fovs: 5-3}\n", "run.yaml:\n"),
        ],
    )
    def test_a_file_that_is_no_config_is_named(self, tmp_path, content, says):
        (tmp_path / "run.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=says) as refused:
            load_config(tmp_path / "run.yaml")
        assert str(tmp_path / "run.yaml") in str(refused.value)

    @pytest.mark.parametrize("name", ["a.nd2", "my movie.CZI", "a.ome.tif"])
    def test_a_movie_as_a_config_names_the_command_that_writes_one(self, tmp_path, name):
        (tmp_path / name).write_bytes(bytes(2**21))
        with pytest.raises(ConfigError, match="is a movie, not a config") as refused:
            load_config(tmp_path / name)
        assert f"run 'pyama-dask init {quote(str(tmp_path / name))}'" in str(refused.value)

    @pytest.mark.parametrize("name", ["none.yaml", ".", "none.nd2"])
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path, name):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path / name)

    def test_python_objects_in_yaml_are_not_made(self, tmp_path):
        (tmp_path / "run.yaml").write_text("input: !!python/object/apply:os.getcwd []\n")
        with pytest.raises(ConfigError, match="is not a YAML config"):
            load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("pipelines", "message"),
    [
        (
            [{"name": "prepare", "steps": ["median", {"do": "m:gaussian", "halo": "x"}]}],
            "pipelines.0 (prepare).steps.1 (gaussian).halo: Input should be a valid integer",
        ),
        ([{"name": "a", "steps": [{"do": "gaussian", "name": "soft", "over": "t"}]}], ".steps.0 (soft).over: "),
        ([{"name": "a", "steps": ["median", {"sigma": 2}]}], "pipelines.0 (a).steps.1.do: is needed"),
        ([{"steps": "seven"}], "pipelines.0.name: is needed"),
        ([{"name": "a", "stps": 3, "steps": "seven"}], "pipelines.0 (a).stps: is not a key here; did you mean"),
        ([{"name": "a", "steps": []}], "pipelines.0 (a): pipeline 'a' has no step"),
        ([{"name": "a", "steps": "seven"}] * 2, "two pipelines are named 'a'. Fix: give each its own name\n"),
        ([{"name": "a", "steps": ["median", "flat_field"]}], "pipelines: pipeline 'a': flat_field comes after"),
        ("seven", "pipelines: must be a list, not 'seven'"),
    ],
)
def test_faults_in_pipelines_have_their_place_and_name(pipelines, message):
    document = {"input": "a.nd2", "output": "out", "channels": {"pc": {"channel": 0}}, "pipelines": pipelines}
    with pytest.raises(ConfigError) as raised:
        parse_config(document)
    assert message in f"{raised.value}\n"


def test_faults_in_pipelines_are_told_with_all_others():
    with pytest.raises(ConfigError) as raised:
        parse_config({"input": "a.nd2", "channels": {"pc": {"channel": 0}}, "storge": 1, "pipelines": [{"name": "a"}]})
    keys = {line.split(":")[0] for line in str(raised.value).splitlines()[1:]}
    assert keys == {"  output", "  storge", "  pipelines.0 (a).steps"}
