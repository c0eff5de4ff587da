"""Step time against batch size: flat as long as a step's fixed cost rules, then in proportion.

A step of B samples takes about a + b B: what Python, the optimiser and the start of each operation
take however few samples there are, and what the samples' own arithmetic takes. It is flat for
B much smaller than a / b and grows in proportion for B much larger, where throughput is at its
most. A net of many small operations, such as GoogLeNet, has a large a.
"""

from pathlib import Path

from zoo.cli.request import take_apart
from zoo.cli.session import quiet
from zoo.run.trust import trust
from zoo.studies.bench_report import draw, line_of, sentences, summary_of
from zoo.studies.bench_run import Contender, Measured, measure
from zoo.studies.drawing import save_picture
from zoo.studies.tables import write_table


def study(
    folder: Path, *, seeds: list[int], recipes: list[str], batch_sizes: list[int], repeats: int
) -> None:
    """Time the training step of some recipes, in turns, at one batch size after the other.

    Args:
        folder: Gets the table and the picture.
        seeds: Unused: times do not depend on what is drawn.
        recipes: Names of recipes.
        batch_sizes: Samples in a batch.
        repeats: How often each is timed.
    """
    quiet()
    trust([])
    contenders = [Contender(name, take_apart(["bench", name])) for name in recipes]
    results: list[Measured] = []
    for found in measure(contenders, sorted(batch_sizes), repeats):
        results += found
        print("\n".join(map(line_of, found)), flush=True)
    rows = [{"recipe": each.contender, **summary_of(each)} for each in results]
    for row in rows:
        del row["memory MB"]  # of all recipes together
    write_table(folder, rows)
    save_picture(lambda: draw(results), folder / "step_time.png")
    print("\n".join(sentences(results)), flush=True)
