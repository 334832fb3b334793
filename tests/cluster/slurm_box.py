"""A Slurm cluster on one machine, for tests: two nodes with CPUs and one with two fake GPUs.

All nodes are this machine under other names. Neither systemd nor cgroups are needed, and nothing is written outside the
box's folder apart from the packages. What jobs use is watched and memory is enforced, by sampling once a second.
"""

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

PACKAGES = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr", "sshare")
CPU_NODES, GPU_NODE = ("n1", "n2"), "g1"
NODES = (*CPU_NODES, GPU_NODE)
FAKE_GPUS = ("/dev/null", "/dev/zero")  # Slurm wants device files; these exist everywhere
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"

CONFIG = """
ClusterName=box
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
PropagateResourceLimits=NONE
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MinJobAge=86400
KillWait=2
SlurmdTimeout=10
MessageTimeout=15
GresTypes=gpu
EnforcePartLimits=ALL
DefMemPerCPU=256
{nodes}
PartitionName=cpu Nodes={cpu_nodes} Default=YES MaxTime=1440 DefaultTime=5 State=UP
PartitionName=gpu Nodes={gpu_node} MaxTime=1440 DefaultTime=5 State=UP
"""


class NoSlurm(RuntimeError):
    """Why there can be no cluster on this machine."""


def install():
    """Install Slurm with apt where it is missing and this is root; NoSlurm says why that cannot be."""
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=SYSTEM_PATH)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoSlurm(
            f"Slurm is not installed ({', '.join(missing)}), and only root on Debian or Ubuntu can install it"
        )
    policy = Path("/usr/sbin/policy-rc.d")  # keeps the packages' scripts from starting daemons
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *words], env=env, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rpartition("\n")[2]
        raise NoSlurm(f"Slurm cannot be installed: {last}") from None
    except subprocess.TimeoutExpired:
        raise NoSlurm("Slurm cannot be installed: apt-get took more than 5 minutes") from None
    finally:
        if ours:
            policy.unlink()


def free_ports(n):
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for(condition, what, seconds=30):
    """What `condition` returns as soon as that is true; TimeoutError names what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{what} did not happen within {seconds} s")


def kill_tree(process):
    """End a process and all below it."""
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


class SlurmBox:
    """The cluster: `start` it in an empty folder with a short name, `stop` it whatever happened."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.daemons = {}
        hidden = ("SLURM_", "SBATCH_", "SRUN_", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.env = {
            **kept,
            "SLURM_CONF": f"{self.folder}/slurm.conf",
            "PATH": f"{self.folder}/bin:{SYSTEM_PATH}",
        }

    def start(self):
        """Start all daemons and wait until every node is idle; NoSlurm says what went wrong."""
        try:
            self._write()
            key, sock = f"--key-file={self.folder}/munge.key", f"--socket={self.folder}/munge.socket"
            state = [f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "log", "seed")]
            self._daemon("munged", "munged", "--foreground", key, sock, *state)
            wait_for(lambda: self._works("munge", "-n", sock), "munged")
            self._daemon("slurmctld", "slurmctld", "-D", "-i")
            wait_for(lambda: self._works("scontrol", "ping"), "slurmctld")
            for node in NODES:
                self.revive(node)
        except (TimeoutError, OSError, subprocess.SubprocessError) as error:
            self.stop()
            logs = [path.read_text(errors="replace")[-500:] for path in sorted(self.folder.glob("*.out"))]
            raise NoSlurm(f"Slurm does not start here: {error}\n" + "\n".join(logs)) from None

    def stop(self):
        """End every daemon and every job."""
        for name in reversed(list(self.daemons)):
            process = self.daemons.pop(name)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for shepherd in list(self._shepherds()):
            kill_tree(shepherd)

    def ask(self, *words):
        """What a Slurm command prints."""
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def jobs(self, comment=""):
        """All jobs so far whose comment (rule_NAME_...) begins so, each with the fields of `scontrol show job`."""
        text = self.ask("scontrol", "show", "job", "--oneliner", "--detail")
        jobs = [dict(re.findall(r"(\S+?)=(.*?)(?= \S+?=|$)", line)) for line in text.splitlines() if "JobId=" in line]
        return [job for job in jobs if job.get("Comment", "").startswith(comment)]

    def running(self, comment, seconds=120):
        """The job with such a comment that runs now, waited for."""
        running = lambda: [job for job in self.jobs(comment) if job["JobState"] == "RUNNING"]  # noqa: E731
        return wait_for(running, f"a running job {comment}", seconds)[0]

    def node_state(self, node):
        """IDLE, MIXED, DOWN+NOT_RESPONDING, ... as `scontrol` has it; `sinfo`, asked often, shows states gone by."""
        return re.search(r"State=(\S+)", self.ask("scontrol", "show", "node", node)).group(1)

    def cancel(self, job):
        """What `scancel` of another user or an administrator does."""
        self.ask("scancel", job["JobId"])

    def crash(self, node):
        """The node dies at once with all that runs on it, and the controller hears of it."""
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        self._kill_jobs(node)
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=crashed")
        wait_for(lambda: "DOWN" in self.node_state(node), f"the end of node {node}")

    def revive(self, node):
        """Start a node, and wait until it takes jobs."""
        self._daemon(node, "slurmd", "-D", "-N", node)
        wait_for(lambda: self.node_state(node) in ("IDLE", "MIXED", "ALLOCATED"), f"node {node}", 60)

    def _shepherds(self):
        """The processes that keep this box's jobs; psutil cannot read their whole environment, which they overwrite."""
        for process in psutil.process_iter(["name"]):
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                continue
            if process.info["name"] == "slurmstepd" and self.env["SLURM_CONF"].encode() in environment:
                yield process

    def _kill_jobs(self, node):
        """End what runs on a node, children too; shepherds carry ids of jobs, not names of nodes."""
        ids = {job["JobId"] for job in self.jobs() if job.get("NodeList") == node}
        for shepherd in list(self._shepherds()):
            found = re.match(r"slurmstepd: \[(\d+)\.", " ".join(shepherd.cmdline()))
            if found and found.group(1) in ids:
                kill_tree(shepherd)

    def _works(self, *words):
        return subprocess.run(words, env=self.env, capture_output=True, timeout=30, check=False).returncode == 0

    def _daemon(self, name, *words):
        out = (self.folder / f"{name}.out").open("a")
        self.daemons[name] = subprocess.Popen(words, env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def _write(self):
        """Write the configuration, the key that all daemons share, and the commands for clients."""
        self.folder.chmod(0o711)  # munged asks for that, as clients of other users must reach its socket
        for name in ("state", "bin", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(0o600)  # munged refuses one that others can read
        key.write_bytes(os.urandom(1024))
        host, ports = socket.gethostname().split(".")[0], free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=16000 State=UNKNOWN"
            + (f" Gres=gpu:{len(FAKE_GPUS)}" if node == GPU_NODE else "")
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        settings = {"host": host, "port": ports[0], "user": getpass.getuser(), "folder": self.folder}
        places = {"nodes": "\n".join(nodes), "cpu_nodes": ",".join(CPU_NODES), "gpu_node": GPU_NODE}
        (self.folder / "slurm.conf").write_text(CONFIG.format(**settings, **places))
        gpus = "".join(f"NodeName={GPU_NODE} Name=gpu File={device}\n" for device in FAKE_GPUS)
        (self.folder / "gres.conf").write_text(gpus)
        # The executor's job steps drop all SLURM_ variables, SLURM_CONF with them.
        for client in CLIENTS:
            program = shutil.which(client, path=SYSTEM_PATH)
            shim = self.folder / "bin" / client
            shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.env["SLURM_CONF"]} exec {program} "$@"\n')
            shim.chmod(0o755)
        # From version 23 on, slurmd loads a plugin for cgroups unless it is told not to.
        version = int(re.search(r"\d+", self.ask("sbatch", "--version")).group())
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n" if version >= 23 else "")
