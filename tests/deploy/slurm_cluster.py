"""Slurm as it is: munge, a controller and two nodes on loopback, in a folder of their own, nothing of the system's."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "mungekey", "sbatch")
NODES = ("n1", "n2")

CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
KillWait=10
MinJobAge=300
ReturnToService=2
SlurmdTimeout=30
PluginDir={plugins}
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={n1} CPUs=2 RealMemory=4000 Gres=gpu:1
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={n2} CPUs=2 RealMemory=4000 Gres=gpu:1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=60 DefaultTime=30 State=UP
"""


def missing() -> str:
    """What a test lacks, in words; empty where it lacks nothing."""
    lacking = [name for name in PROGRAMS if found(name) is None]
    if lacking:
        return f"no {', '.join(lacking)} here (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "two nodes on one machine are started as root"


def found(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Slurm:
    """Two nodes, n1 and n2, of two cores each whatever the machine has, on one machine."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sweeps-slurm-", dir="/tmp"))
        self.processes: list[subprocess.Popen[bytes]] = []
        ports = dict(zip(("controller", *NODES), free_ports(3), strict=True))
        sbatch = Path(str(found("sbatch"))).resolve()
        plugins = next(sbatch.parents[1].glob("lib*/**/slurm-wlm"), None) or next(sbatch.parents[1].glob("lib*/slurm"))
        names = {"host": socket.gethostname(), "user": pwd.getpwuid(os.getuid()).pw_name, "plugins": plugins}
        (self.folder / "slurm.conf").write_text(CONF.format(folder=self.folder, **ports, **names))
        devices = zip(NODES, ("/dev/null", "/dev/zero"), strict=True)  # a GPU is a file, to Slurm
        gres = "".join(f"NodeName={node} Name=gpu File={device}\n" for node, device in devices)
        (self.folder / "gres.conf").write_text(gres)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to speak with this cluster and no other."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        self._munge()
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        deadline = time.monotonic() + 60
        while (states := self.run("sinfo", "--noheader", "--Node", "--format=%T").split()) != ["idle"] * len(NODES):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nodes are {states}: {(self.folder / 'slurmctld.log').read_text()}")
            time.sleep(0.1)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        subprocess.run([str(found("mungekey")), "--create", f"--keyfile={key}"], check=True)
        places = {"key-file": key, "socket": self.folder / "munge.socket", "pid-file": self.folder / "munge.pid"}
        places |= {"seed-file": self.folder / "munge.seed", "log-file": self.folder / "munge.log"}
        self._daemon("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in places.items()))
        deadline = time.monotonic() + 60
        while not (self.folder / "munge.socket").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"munge does not start: {(self.folder / 'munged.out').read_text()}")
            time.sleep(0.05)

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            command = [str(found(name)), *arguments]
            known = os.environ | self.environment
            self.processes.append(subprocess.Popen(command, env=known, stdout=out, stderr=out, cwd=self.folder))

    def run(self, *command: str) -> str:
        """What one of Slurm's commands says."""
        ran = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True)
        return ran.stdout + ran.stderr

    def job(self, number: str) -> dict[str, str]:
        """What the controller knows of a job, as JobState=RUNNING."""
        words = self.run("scontrol", "show", "job", "--oneliner", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def await_job(self, number: str, seconds: float = 240, **known: str) -> dict[str, str]:
        """Until the controller says so of it."""
        deadline = time.monotonic() + seconds
        while not known.items() <= (job := self.job(number)).items():
            assert time.monotonic() < deadline, f"{known} is not to be: {job}"
            time.sleep(0.2)
        return job

    def await_no_jobs(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while left := self.run("squeue", "--noheader").strip():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still in the queue: {left}")
            time.sleep(0.2)

    def clear(self) -> None:
        """As at the beginning, whatever came in between: no jobs, and nodes that take some."""
        for state in ("pending", "running", "suspended"):
            self.run("scancel", f"--state={state}")
        for node in NODES:
            self.run("scontrol", "update", f"nodename={node}", "state=resume")
        self.await_no_jobs()

    def stop(self) -> None:
        """Every job ends first, and with it what it started."""
        with suppress(TimeoutError):
            self.clear()
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder)


@contextmanager
def started() -> Iterator[Slurm]:
    """Started, and ended in any case."""
    cluster = Slurm()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
