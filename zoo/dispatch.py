"""Which module runs a verb: each is imported only where it is asked for."""

from __future__ import annotations

from datamodules.core.errors import did_you_mean, refuse
from zoo.catalog.contents import OTHER_VERBS, VERBS, recipe_names
from zoo.errors import UserError

#: What other programs call the verbs.
_OTHERS = {
    "train": "fit",
    "eval": "test",
    "evaluate": "test",
    "infer": "predict",
    "generate": "predict",
    "chat": "predict",
    "show": "help",
    "ls": "list",
}


def run_verb(argv: list[str]) -> int:
    """Run a command.

    Args:
        argv: The verb and its arguments.

    Returns:
        The exit code.

    Raises:
        UserError: If there is no such verb, or something else is the user's to put right.
    """
    verb, *rest = argv
    for option in (word.removesuffix("=--") for word in rest if word.endswith("=--")):
        raise refuse(option, "--", "give a value")  # argparse makes an empty list of it
    if verb == "list":
        from zoo.cli.guide import list_things

        return list_things(rest)
    if verb == "help" and rest and rest[0] in VERBS | OTHER_VERBS:
        return run_verb([rest[0], "--help"])
    if verb == "help":
        from zoo.cli.guide import explain_things

        return explain_things(rest)
    if verb == "export":
        from zoo.cli.export import export

        return export(rest)
    if verb == "demo":
        from zoo.cli.demo import demo

        return demo(rest)
    if verb == "explain":
        from zoo.cli.explain import explain

        return explain(rest)
    if verb == "push":
        from zoo.cli.push import push

        return push(rest)
    if verb == "results":
        from zoo.cli.results import results

        return results(rest)
    if verb == "compare":
        from zoo.studies.compare import compare

        return compare(rest)
    if verb == "dashboard":
        from zoo.dashboards.dashboard import dashboard

        return dashboard(rest)
    if verb == "sweep":
        from zoo.studies.sweep import sweep

        return sweep(rest)
    if verb == "sync":
        from zoo.cli.sync import sync

        return sync(rest)
    if verb == "bench":
        from zoo.studies.bench import bench

        return bench(rest)
    if verb not in VERBS:
        raise _unknown(verb)
    from zoo.cli.request import check_early, take_apart

    request = take_apart(argv)
    if request.asks_help:
        from zoo.cli.verb_help import help_of

        if (text := help_of(request)) is not None:
            print(text)
            return 0
    check_early(request)

    def work() -> int:
        from zoo.cli.verbs import run

        return run(request)

    return request.answer(work)


def _unknown(verb: str) -> UserError:
    verbs = [*VERBS, *OTHER_VERBS]
    if verb in _OTHERS:
        return UserError(f"there is no verb {verb!r} (did you mean {_OTHERS[verb]!r}?)")
    if verb in recipe_names():
        return UserError(f"there is no verb {verb!r} (did you mean `zoo fit {verb}`?)")
    hint = did_you_mean(verb, verbs) or f"; give one of {', '.join(verbs)}"
    return UserError(f"there is no verb {verb!r}{hint}")
