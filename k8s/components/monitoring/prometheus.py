"""Prometheus itself on this machine: what is installed, or Debian's package, unpacked without being root.

It is taken from the search path when it is there. Otherwise apt fetches the package and those of its web pages (20 MB,
the first time only) and dpkg unpacks them into the project's cache.
"""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from epistream.services.kafka.child import Child
from epistream.services.kafka.local import free_ports
from epistream.wire.errors import Unavailable
from k8s.debian import Apt, Told, unpacked

ROOT: Final = Path(__file__).resolve().parents[3]
CACHE: Final = ROOT / ".cache" / "prometheus"

_OLDEST: Final = (2, 42)
"""Debian 12's. The rules and dashboards use nothing newer."""
_NEEDED: Final = re.compile(r"^  Depends: ((?:libjs|fonts)-[a-z0-9.+-]+)$", re.MULTILINE)
_WEB_FILES: Final = "usr/share/prometheus/web"
_READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Tools:
    """The two programs."""

    prometheus: Path
    promtool: Path
    web_files: Path | None = None
    """Where Debian's Prometheus finds its web pages; None for one that brings them."""


def find_tools(told: Told = lambda _: None, cache: Path = CACHE) -> Tools:
    """The programs that are installed, those in `cache`, or those of Debian's package, which is fetched into it.

    Raises:
        Unavailable: they cannot be had; the message says what to do.
    """
    installed = shutil.which("prometheus"), shutil.which("promtool")
    if installed[0] and installed[1] and _version(installed[1]) >= _OLDEST:
        return Tools(Path(installed[0]), Path(installed[1]))
    folder = unpacked(cache, f"Prometheus {'.'.join(map(str, _OLDEST))} or newer", _download, told)
    programs = folder / "usr" / "bin"
    return Tools(programs / "prometheus", programs / "promtool", folder / _WEB_FILES)


def _download(apt: Apt) -> None:
    """The package, and those of its web pages, into the folder."""
    first = _of_the_pages(apt, "prometheus")
    apt.run("apt-get", "download", "prometheus", *sorted(first | _of_the_pages(apt, *first)))


def _of_the_pages(apt: Apt, *packages: str) -> set[str]:
    """The packages with scripts and fonts that these need."""
    return set(_NEEDED.findall(apt.run("apt-cache", "depends", *packages)))


def _version(promtool: str) -> tuple[int, int]:
    """Of an installed one; (0, 0) when it does not say."""
    said = subprocess.run([promtool, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)", said.stdout + said.stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)


@dataclass(frozen=True, slots=True)
class Scraped:
    """What Prometheus reads."""

    address: str
    """HOST:PORT."""
    interval_seconds: int = 5
    ca_file: Path | None = None
    """Who signed the service's certificate; None for a service without TLS."""
    token_file: Path | None = None
    """The bearer token; None for a service that asks for none."""
    server_name: str | None = None
    """The name that the service's certificate is for; None for that of the address."""


class Prometheus:
    """A Prometheus on the loopback interface that reads one service. As a context manager it is started and stopped.

    Attributes:
        address: where it is, as HOST:PORT.
    """

    def __init__(self, tools: Tools, folder: Path, scraped: Scraped, rules: Path, *, port: int = 0) -> None:
        """Nothing is started yet.

        Args:
            tools: the programs.
            folder: for its data, its settings and its log.
            scraped: what it reads.
            rules: the file of alert rules.
            port: where it listens; 0 for a free one.
        """
        self._tools, self._folder, self._scraped, self._rules = tools, folder, scraped, rules
        self.address = f"127.0.0.1:{port or free_ports(1)[0]}"
        self.log = folder / "prometheus.log"
        self._process: Child | None = None

    @property
    def pages(self) -> str:
        """The address of its pages for people: `alerts` and `graph` follow. Debian's has the older ones."""
        return f"http://{self.address}/classic/" if self._tools.web_files else f"http://{self.address}/"

    def __enter__(self) -> Self:
        """Start, and wait until it answers.

        Raises:
            Unavailable: it does not start; the end of its log is in the message.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._folder / "prometheus.yml"
        # JSON is YAML.
        settings.write_text(json.dumps(settings_for(self._scraped, self._rules), indent=2) + "\n")
        command = [
            str(self._tools.prometheus),
            f"--config.file={settings}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self.address}",
            *([f"--web.local-assets={self._tools.web_files}/"] if self._tools.web_files else []),
        ]
        self._process = Child(command, folder=self._folder, environment=dict(os.environ), log=self.log)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process.exit_code is not None or time.monotonic() > deadline:
                self._process.kill()
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
                raise Unavailable(f"Prometheus does not start at {self.address}:\n{tail}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait until it has ended."""
        if self._process is not None:
            self._process.stop(_STOP_SECONDS)

    def wait(self, seconds: float) -> int | None:
        """Wait until it has ended by itself; its exit code, or None when it runs after so many seconds."""
        return self._process.wait(seconds) if self._process is not None else None

    def wait_read(self) -> None:
        """Wait until it has read the service once. Blocks for about one interval.

        Raises:
            Unavailable: it cannot; Prometheus' reason is in the message.
        """
        while self.wait(_LOOK_SECONDS) is None:
            for target in self.get("targets")["activeTargets"]:  # none yet at first, then one
                if target["health"] == "up":
                    return
                if target["health"] == "down":
                    raise Unavailable(_unread(self._scraped.address, target["lastError"]))

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API, such as of `query`.

        Raises:
            urllib.error.HTTPError: it refuses, such as an expression that is none.
        """
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _unread(address: str, why: str) -> str:
    return (
        f"No metrics can be read at {address} ({why}): start a service (`epistream up`, or `make run`), or say where it"
        " is: make monitoring METRICS=127.0.0.1:9464. One with TLS and an access file needs"
        ' MONITORING_FLAGS="--ca-file ca.crt --token-file token", and --server-name NAME there if its certificate is'
        " not for the name in METRICS"
    )


def settings_for(scraped: Scraped, rules: Path) -> dict[str, Any]:
    """Prometheus' settings, to read one service under the job's name that the rules and dashboards look for."""
    job: dict[str, Any] = {"job_name": "epistream", "static_configs": [{"targets": [scraped.address]}]}
    if scraped.ca_file is not None:
        named = {"server_name": scraped.server_name} if scraped.server_name else {}
        job |= {"scheme": "https", "tls_config": {"ca_file": str(scraped.ca_file.resolve()), **named}}
    if scraped.token_file is not None:
        job |= {"authorization": {"credentials_file": str(scraped.token_file.resolve())}}
    interval = f"{scraped.interval_seconds}s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rules.resolve())],
        "scrape_configs": [job],
    }
