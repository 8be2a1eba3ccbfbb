"""The real service with a gate that asks nothing, for bench/gate_path.py: `python -m bench.ungated up …`.

No lineage, looks, gain or real share is asked, no posterior learns, and no window is watched for a collapse. What is
matched, who may speak, and what is counted of each namespace stay.
"""

from bench.gate import ask_nothing
from epistream.services.__main__ import main
from epistream.services.collapse_watching import CollapseWatching

if __name__ == "__main__":
    ask_nothing()
    CollapseWatching._rest_after_one = lambda _: 0.0  # type: ignore[assignment, method-assign] # noqa: SLF001
    main()
