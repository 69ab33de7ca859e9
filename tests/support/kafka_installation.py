"""What a real Kafka broker needs on this machine: Java, the jars, and things made once from them.

Made once and kept in .cache/kafka: a formatted data folder to copy, and a class-data archive, which together halve the
time of a start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "kafka"
FILES = Path(__file__).parent / "kafka"
OLDEST_JAVA = 17
"""The class files of Kafka 4 are Java 17's."""

PACKAGES = "default-jre-headless maven"
CLUSTER = "formatted-for-tests-00"
"""The cluster id of the formatted folder: 22 characters, as Kafka makes them. Each broker writes its own over it."""


BRIEF, LASTING = 1, 4
"""Java's tiers of compilation. A test's broker lives for seconds or minutes: with the first tier alone, the
longest test and its brokers need 98 s of processor time instead of 136."""


class NotInstalled(Exception):
    """No real Kafka here. The message says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class KafkaInstallation:
    """Java, jars, and the prepared files. tier: BRIEF, or LASTING where speed is measured."""

    java: str
    libs: Path
    prepared: Path
    tier: int = BRIEF

    @property
    def formatted(self) -> Path:
        return self.prepared / "formatted"

    @property
    def class_archive(self) -> Path:
        return self.prepared / "classes.jsa"

    def command(self, main: str, *arguments: str, jvm: tuple[str, ...] = ()) -> list[str]:
        """A JVM that runs `main`."""
        options = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
        tier = f"-XX:TieredStopAtLevel={self.tier}"
        logging = f"-Dlog4j2.configurationFile={FILES / 'log4j2.properties'}"
        return [self.java, *options, tier, *jvm, logging, "-cp", f"{self.libs}/*", main, *arguments]

    def broker_command(self, properties: Path) -> list[str]:
        archive = ("-Xshare:auto", f"-XX:SharedArchiveFile={self.class_archive}") if self.class_archive.exists() else ()
        return self.command("kafka.Kafka", str(properties), jvm=archive)


def find_kafka(tier: int = BRIEF) -> KafkaInstallation:
    """Java and the jars, with the formatted folder made if need be. Raises NotInstalled."""
    java = find_java()
    libs = CACHE / "libs"
    if not any(libs.glob("kafka_*.jar")):
        raise NotInstalled("the Kafka jars are not in .cache/kafka/libs: `make test` fetches them (it needs maven)")
    installation = KafkaInstallation(java=java, libs=libs, prepared=CACHE / _fingerprint(java, libs), tier=tier)
    with _locked(CACHE / "lock"):
        if not installation.formatted.exists():
            _format(installation)
    return installation


def find_java() -> str:
    """The `java` to run, JAVA_HOME before PATH. Raises NotInstalled."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None or _version(java) < OLDEST_JAVA:
        raise NotInstalled(f"no java ({OLDEST_JAVA} or newer): on Debian and Ubuntu, apt-get install {PACKAGES}")
    return java


def _version(java: str) -> int:
    """17 of `openjdk version "17.0.15"`; 1 of the old `1.8.0`."""
    found = re.search(r'version "(\d+)', _version_text(java))
    return int(found.group(1)) if found else 0


def _version_text(java: str) -> str:
    return subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=60).stderr


def write_properties(file: Path, extra: Mapping[str, object]) -> None:
    """server.properties: what all brokers of the tests share, and what this one adds."""
    added = "".join(f"{key}={value}\n" for key, value in extra.items())
    file.write_text((FILES / "server.properties").read_text() + "\n" + added)


def _fingerprint(java: str, libs: Path) -> str:
    """Names what the prepared files were made from: an archive fits one JVM and one class path only."""
    jars = sorted(jar.name for jar in libs.glob("*.jar"))
    settings = (FILES / "server.properties").read_text()
    return hashlib.sha256("\n".join([java, _version_text(java), str(libs), *jars, settings]).encode()).hexdigest()[:16]


def _format(installation: KafkaInstallation) -> None:
    installation.prepared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=installation.prepared) as folder:
        data, properties = Path(folder) / "data", Path(folder) / "server.properties"
        addresses = "BROKER://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
        voters = "1@127.0.0.1:2"
        write_properties(properties, {"log.dirs": data, "listeners": addresses, "controller.quorum.voters": voters})
        arguments = ("format", "-t", CLUSTER, "-c", str(properties))
        command = installation.command("kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise NotInstalled(f"Kafka's storage tool failed:\n{done.stdout}{done.stderr}")
        data.rename(installation.formatted)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One test run at a time prepares."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
