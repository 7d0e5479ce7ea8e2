"""The part of a config about workers and queues."""

import pytest
from support.configs import PLAIN
from support.movies import write_config

from pyama_dask.config.load import load_config, parse_config
from pyama_dask.errors import ConfigError


def of_queue(**keys):
    """Cluster of a config that has all that a queue needs, but for what is changed; None takes a key away."""
    document = {"kind": "slurm", "jobs": 2, "memory": "4GiB", "walltime": "04:00:00"} | keys
    given = {key: value for key, value in document.items() if value is not None}
    return parse_config(PLAIN | {"cluster": given}).cluster


class TestQueues:
    @pytest.mark.parametrize("kind", ["slurm", "pbs", "lsf", "sge", "oar"])
    def test_what_a_queue_needs(self, kind):
        found = of_queue(kind=kind)
        assert found.of_queue
        assert (found.most_jobs, found.worker_processes, found.worker_bytes) == (2, 1, 4 * 2**30 - 200 * 2**20)

    def test_a_local_cluster_needs_none_of_it(self):
        assert not parse_config(PLAIN | {"cluster": {"kind": "local"}}).cluster.of_queue

    @pytest.mark.parametrize("keys", [{"jobs": None}, {"adaptive": {"maximum": 3}}])
    def test_either_a_number_of_jobs_or_limits(self, keys):
        with pytest.raises(ConfigError, match=r"cluster: 'kind: slurm' needs either 'jobs', .* or 'adaptive'"):
            of_queue(**keys)

    def test_limits_of_jobs(self):
        found = of_queue(jobs=None, adaptive={"maximum": 3})
        assert (found.adaptive.minimum, found.most_jobs) == (0, 3)
        with pytest.raises(ConfigError, match=r"cluster\.adaptive: 'minimum' is larger than 'maximum'"):
            of_queue(jobs=None, adaptive={"minimum": 4, "maximum": 3})
        with pytest.raises(ConfigError, match=r"cluster\.adaptive\.maximum: "):
            of_queue(jobs=None, adaptive={"maximum": 0})

    @pytest.mark.parametrize("memory", [None, "auto"])
    def test_a_job_needs_its_memory(self, memory):
        with pytest.raises(ConfigError, match="cluster: 'kind: slurm' needs 'memory', of a job, such as 4GiB"):
            of_queue(memory=memory)

    def test_memory_must_be_enough_for_the_process_that_looks_after_the_workers(self):
        with pytest.raises(ConfigError, match="'memory', 200MiB, is less than a job of 1 processes needs"):
            of_queue(memory="200MiB")

    @pytest.mark.parametrize(
        ("written", "time"),
        [
            ("'4:00:00'", "04:00:00"),
            ('"04:00:00"', "04:00:00"),
            ("04:00:00", "04:00:00"),  # text to YAML, as the first number has a zero in front
            ("2-00:00:01", "48:00:01"),
            ("'0:00:30'", "00:00:30"),
            ("'1000:00:00'", "1000:00:00"),
        ],
    )
    def test_walltimes(self, written, time, tmp_path):
        assert self.read(written, tmp_path).cluster.walltime == time

    @pytest.mark.parametrize("written", ["4:00:00", "4:00", "90", "14400"])
    def test_a_walltime_that_yaml_reads_as_a_number_must_be_quoted(self, written, tmp_path):
        with pytest.raises(ConfigError, match=r"cluster\.walltime: must be quoted, as 'HH:MM:SS'"):
            self.read(written, tmp_path)

    @pytest.mark.parametrize("written", ["'4:00'", "4h", "'00:00:00'", "'04:60:00'", "'-1:00:00'", "'1:2:3'"])
    def test_what_is_no_walltime(self, written, tmp_path):
        with pytest.raises(ConfigError, match=r"cluster\.walltime: must be a time such as '04:00:00'"):
            self.read(written, tmp_path)

    def read(self, walltime, folder):
        document = write_config(folder / "run.yaml", PLAIN | {"cluster": {"kind": "slurm", "jobs": 1}})
        text = document.read_text().rstrip() + f"\n  memory: 4GiB\n  walltime: {walltime}\n"
        document.write_text(text)
        return load_config(document)

    def test_every_queue_but_htcondor_needs_a_walltime(self):
        with pytest.raises(ConfigError, match="cluster: 'walltime', such as '04:00:00', is needed"):
            of_queue(walltime=None)
        with pytest.raises(ConfigError, match="with every queue but htcondor, which has none"):
            of_queue(kind="htcondor")
        assert of_queue(kind="htcondor", walltime=None).walltime is None

    @pytest.mark.parametrize("keys", [{"queue": "long"}, {"account": "lab"}])
    def test_htcondor_has_no_queues_and_accounts(self, keys):
        with pytest.raises(ConfigError, match="cluster: htcondor has no 'queue' and no 'account'"):
            of_queue(kind="htcondor", walltime=None, **keys)

    def test_directives_of_htcondor_are_names_and_values(self):
        lines = ("accounting_group=lab", '+Site = "A"', 'requirements = Arch == "X86_64"')
        assert of_queue(kind="htcondor", walltime=None, directives=lines).directives == lines
        for line in ("nice", "= 5", "two words = 1", "empty ="):
            with pytest.raises(ConfigError, match="'directives' of htcondor are lines such as"):
                of_queue(kind="htcondor", walltime=None, directives=[line])

    @pytest.mark.parametrize(("cores", "processes", "count"), [(4, "auto", 4), (4, 2, 2), (4, 1, 1)])
    def test_processes_of_a_job(self, cores, processes, count):
        found = of_queue(cores=cores, processes=processes)
        assert (found.worker_processes, found.worker_bytes) == (count, (4 * 2**30 - 200 * 2**20) // count)

    @pytest.mark.parametrize(("cores", "processes"), [(4, 3), (2, 4)])
    def test_processes_share_the_cores_evenly(self, cores, processes):
        with pytest.raises(ConfigError, match=f"'cores', {cores}, must be a multiple of 'processes', {processes}"):
            of_queue(cores=cores, processes=processes)

    @pytest.mark.parametrize(("given", "found"), [("on", "on"), ("off", "off"), (True, "on"), (False, "off")])
    def test_the_switch_of_tls(self, given, found):
        assert of_queue(tls=given).tls == found

    def test_what_is_no_switch(self):
        with pytest.raises(ConfigError, match=r"cluster\.tls: "):
            of_queue(tls="maybe")
