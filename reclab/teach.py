"""The commands for a classroom: ``reclab release``, ``reclab grade`` and ``reclab guide``.

Taught in: 00_start_here.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from .series import notebooks_folder


def add_commands(commands) -> None:
    """Add the three commands to a parser's.

    Taught in: 00_start_here.
    """
    release = commands.add_parser("release", help="make the student's series: without solutions and hidden tests")
    release.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    release.add_argument("notebooks", nargs="*", metavar="NN", help="notebooks (default: all)")
    release.set_defaults(command=release_command)

    grade = commands.add_parser("grade", help="grade what students handed in; runs their code with your rights")
    grade.add_argument("submissions", type=Path, metavar="SUBMISSIONS", help="holds a folder for each student")
    grade.add_argument("--out", type=Path, default=Path("scores.csv"), help="the table (default: scores.csv)")
    grade.add_argument("--notebooks", nargs="+", metavar="NN", help="those that were set (default: those handed in)")
    grade.add_argument("--timeout", type=float, default=20, help="seconds that a cell may take (default: 20)")
    grade.add_argument("--kernels", type=int, help="students at the same time (default: one a processor, at most 4)")
    grade.set_defaults(command=grade_command)

    guide = commands.add_parser("guide", help="write the teacher's guide: plan, rubric, what to skip")
    guide.add_argument("file", type=Path, metavar="FILE", help="a .html or .md file")
    guide.add_argument("notebooks", nargs="*", metavar="NN", help="notebooks (default: all)")
    guide.set_defaults(command=guide_command)


def release_command(args: argparse.Namespace) -> int:
    """Write the student's series.

    Taught in: 00_start_here.
    """
    from .masters import read_masters, release

    made = release(read_masters(notebooks_folder(), args.notebooks), args.folder)
    print(f"{len(made)} notebook{'' if len(made) == 1 else 's'} for students in {args.folder}")
    return 0


def grade_command(args: argparse.Namespace) -> int:
    """Grade a class; what was graded is kept, so that a run that was stopped goes on where it was.

    Taught in: 00_start_here.
    """
    from .classroom import feedback_folder, grade

    masters = notebooks_folder()
    say = partial(print, flush=True)
    options = {"names": args.notebooks, "timeout": args.timeout, "kernels": args.kernels}
    reports = grade(args.submissions, args.out, masters, say=say, **options)
    noted = [report for report in reports if report.notes]
    for report in noted:
        print(f"  {report.student}: {'; '.join(report.notes)}")
    print(f"{len(reports)} graded: {args.out}; feedback: {feedback_folder(args.out)}")
    return 0


def guide_command(args: argparse.Namespace) -> int:
    """Write the teacher's guide from the notebooks.

    Taught in: 00_start_here.
    """
    from .guide import write
    from .masters import read_masters

    print(f"The guide is {write(read_masters(notebooks_folder(), args.notebooks), args.file)}")
    return 0
