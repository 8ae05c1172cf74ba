"""``pytest --memprot``: a fault fails the very test that made it, with memprot's report, and the session goes on."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

import memprot._native as _native
from memprot._native import catch_faults
from memprot.faults import engine
from memprot.faults.error import FaultError
from memprot.faults.headline import display_path
from memprot.run import session
from memprot.run.neighbours import keep_in_front
from memprot.run.pytest_crash import RunningTest
from memprot.run.pytest_escapes import gathered_escapes
from memprot.run.pytest_failure import Failure, without_color
from memprot.run.pytest_guards import Guards, parse_guards, parse_settings
from memprot.run.pytest_marks import Wish, wish_of
from memprot.run.pytest_restart import hide_library, with_guarded_malloc
from memprot.run.pytest_summary import Summary
from memprot.run.pytest_telling import Telling
from memprot.run.suppressed import last_words, suppress
from memprot.run.suppressions import SuppressionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from memprot.faults.engine import ProcessPolicy
    from memprot.run.pytest_guards import Settings
    from memprot.run.suppressions import Suppression

    Report = pytest.TestReport | pytest.CollectReport
    Phase = Generator[None, Any, Any]

__all__ = ["Plugin", "start"]

_SETTINGS = ("side", "sample", "align", "quarantine")


def start(config: pytest.Config, guards: str) -> None:
    """Start the fault engine and the guards in this process, and register the plugin.

    Args:
        config: of the session that begins.
        guards: what is to be guarded, as the user has typed it.

    Raises:
        pytest.UsageError: an option that cannot be meant, or that cannot be had in this process.

    >>> callable(start)
    True
    """
    try:
        targets = parse_guards(guards)
        settings = parse_settings({name: _given(config, name) for name in _SETTINGS})
        if "malloc" in targets:
            with_guarded_malloc(config.invocation_params.args)
            # The workers of xdist are to find it as well; each hides it from what its tests start.
            if not getattr(config.known_args_namespace, "numprocesses", None) or "PYTEST_XDIST_WORKER" in os.environ:
                hide_library()
        if targets:
            plugin = Plugin(config, dict.fromkeys(targets, settings))
            config.add_cleanup(plugin.stop)
            plugin.start()
            config.pluginmanager.register(plugin, "memprot-session")
    except (ValueError, RuntimeError, OSError, SuppressionsError) as error:
        raise pytest.UsageError(f"--memprot: {error}") from error


def _given(config: pytest.Config, name: str) -> Any:
    option = _option(config, name)
    return config.getini(f"memprot_{name}") if option is None else option


def _option(config: pytest.Config, name: str) -> Any:
    return getattr(config.known_args_namespace, f"memprot_{name}")


class Plugin:
    """What watches over the tests of one session, in one process.

    Args:
        config: of the session.
        wanted: how to guard, by what.

    >>> callable(Plugin.start)
    True
    """

    def __init__(self, config: pytest.Config, wanted: dict[str, Settings]) -> None:
        self.config = config
        self._run = session.current  # of `memprot run`, where that has started pytest
        self._guards = Guards(wanted, {} if self._run is None else _settings_of(self._run))
        self._telling = Telling()
        self._summary = Summary()
        self._running = RunningTest()
        self._wishes: dict[pytest.Item, Wish] = {}
        self._strays: list[str] = []
        self._suppressed: Callable[[], Sequence[tuple[Suppression, int]]] = tuple
        self._policy: ProcessPolicy = "die"
        self._started = False

    # ---- the session

    def start(self) -> None:
        """Listen, and guard.

        Raises:
            ValueError: something cannot be guarded, or not in this way.
            RuntimeError: something cannot be guarded in this process.
            OSError: the handlers of faults cannot be installed.
            SuppressionsError: a file of suppressions cannot be read or understood.
        """
        document = None if self._run is None else self._run.options.json
        environment = [b"%s=%s" % item for item in os.environb.items()]
        reporter = self._running.reporter("raise", document)
        _native.set_crash_reporter(reporter, environment, self._running.stderr_descriptor)
        self._policy = engine.get_policy()
        engine.set_policy("raise")
        engine.add_listener(self._telling.hear)
        self._started = True
        if self._run is None:
            keep_in_front(engine.reinstall)
        else:
            self._run.tells = False
        files = [*self.config.getini("memprot_suppressions"), *(_option(self.config, "suppressions") or ())]
        if files:
            self._suppressed = suppress([os.path.abspath(file) for file in files])
        self._guards.start()

    def stop(self) -> None:
        """Leave the process as it was."""
        if not self._started:
            return
        self._started = False
        self._guards.stop()
        if self._suppressed is not tuple:
            suppress(())
        engine.remove_listener(self._telling.hear)
        engine.set_policy(self._policy)
        if self._run is not None:
            self._run.tells = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Read the markers of all tests, so that a wrong one is told before anything runs."""
        try:
            self._wishes = {item: wish_of(item, self._guards.session) for item in items}
        except (ValueError, TypeError) as error:
            raise pytest.UsageError(str(error)) from error

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send what this process has counted to the process that sums up."""
        engine.drain()
        self._set_strays_apart()
        data = {"guarded": self._guards.counts(), "trouble": self._trouble(), "strays": self._strays}
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["memprot"] = data
        else:
            self._summary.add_process(data)
        if self._strays and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add what a worker of xdist has counted."""
        data = getattr(node, "workeroutput", {}).get("memprot")
        if data is None:
            self._summary.trouble.append(
                f"the worker {node.gateway.id} has died, and what it has guarded is not counted"
            )
        else:
            self._summary.add_process(data)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what the session comes to."""
        colored = terminalreporter._tw.hasmarkup
        for line in self._summary.details():
            terminalreporter.write_line(line if colored else without_color(line))
        terminalreporter.write_line(self._summary.line(), red=self._summary.found, green=not self._summary.found)

    def _trouble(self) -> list[str]:
        trouble = list(self._guards.trouble)
        words = last_words(self._suppressed())
        trouble += [line.removeprefix("memprot: ").removesuffix(".") for line in words.splitlines()]
        if "numpy" in self._guards.session and find_spec("numpy") is None:
            trouble.append("NumPy is not installed, so there are no arrays to guard")
        return trouble

    def _set_strays_apart(self) -> None:
        self._strays += [self._telling.text(record, "") for record in self._telling.take()]

    # ---- collection

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Phase:
        """Import a file of tests, or a conftest, in a scope: its faults are errors of its collection."""
        self._set_strays_apart()
        self._running.set(f"{collector.nodeid or 'the session'} (collection)")
        report, error = None, None
        try:
            with catch_faults(), gathered_escapes():
                report = yield
        except FaultError as fault:
            if report is None:
                raise
            error, report.outcome, report.result = fault, "failed", []
        call = getattr(report, "call", None)
        if error is None and call is not None and call.excinfo is not None:
            error = call.excinfo.value
        self._telling.tell(report, error, (display_path(str(collector.path)), 1))
        return report

    # ---- tests

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Phase:
        """Run the fixtures of a test under its guards, in a scope."""
        self._set_strays_apart()
        wish = self._wish(item)
        self._guards.use(wish.guards)
        if wish.policy is None:
            engine.set_policy("discard")
        return (yield from self._phase(item, "setup"))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Phase:
        """Run a test in a scope."""
        return (yield from self._phase(item, "call"))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Phase:
        """End the fixtures of a test in a scope; then the session's guards count again."""
        try:
            return (yield from self._phase(item, "teardown"))
        finally:
            self._running.set("")
            engine.set_policy("raise")
            self._guards.use(self._guards.session)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Phase:
        """Tell the faults of a phase, or of a subtest, in its report."""
        report = yield
        file, line, _ = item.location
        self._telling.tell(report, None if call.excinfo is None else call.excinfo.value, (file, (line or 0) + 1))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count what is told, here or in a worker."""
        failure = getattr(report, "memprot_failure", None)
        if failure is not None and failure["alone"] and not isinstance(report.longrepr, Failure):
            report.longrepr = Failure.from_data(failure, None)  # of a subtest, whose report was copied
        self._summary.add_report(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count what is told, here or in a worker."""
        self._summary.add_report(report)

    def _wish(self, item: pytest.Item) -> Wish:
        return self._wishes.get(item) or wish_of(item, self._guards.session)

    def _phase(self, item: pytest.Item, when: str) -> Phase:
        self._running.set(f"{item.nodeid} ({when})")
        policy = self._wish(item).policy
        if policy is None:
            return (yield)
        own: BaseException | None = None
        try:
            with catch_faults(policy), gathered_escapes():
                try:
                    return (yield)
                except BaseException as error:
                    own = error
                    raise
        except FaultError:
            # What the phase has failed of itself is its failure, and what ends a session ends it: the fault is told
            # with it. A test that is skipped or expected to fail has not failed yet.
            if own is None or isinstance(own, (FaultError, pytest.skip.Exception, pytest.xfail.Exception)):
                raise
        raise own

    # ---- reports on their way from worker to controller

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self, report: Report) -> Phase:
        """Have pytest make data of its own part of a report."""
        failure = report.longrepr
        if not isinstance(failure, Failure) or failure.rest is None:
            return (yield)
        report.longrepr = failure.rest
        try:
            return (yield)
        finally:
            report.longrepr = failure

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self) -> Phase:
        """Put a report together again."""
        report = yield
        failure = getattr(report, "memprot_failure", None)
        if failure is not None:
            report.longrepr = Failure.from_data(failure, report.longrepr)
        return report


def _settings_of(run: session.Session) -> dict[str, Settings]:
    options = run.options
    given = {"side": options.side, "sample": options.sample, "align": options.align, "after_free": options.quarantine}
    settings = {name: value for name, value in given.items() if value not in (0, 1)}
    return {target: dict(settings) for target in options.guard}
