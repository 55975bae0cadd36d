"""`ml-train`: one model, with the bits it has inside the sweep."""

from __future__ import annotations

import click

from sweep.cli import options

SHORT = {
    "lr": "params.optimizer.lr",
    "batch_size": "params.batch_size",
    "num_epochs": "params.epochs",
}


@click.command("ml-train", short_help="Train one model.", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--seed", help="The seed to train. Default: the seed of the config, or 42.")
@click.option("--deterministic/--fast", "deterministic", default=None,
              help="Use only kernels that give the same bits on the same software and hardware, or the fastest ones "
              "(the default).")  # fmt: skip
@click.option("--out", metavar="PATH", help="The run directory. Default: runs/NAME.")
@click.option("--lr", help="The learning rate, for example 0.01. Short for params.optimizer.lr=…")
@click.option(
    "--batch_size",
    "--batch-size",
    "batch_size",
    help="Examples per step, for example 64. Short for params.batch_size=…",
)
@click.option(
    "--num_epochs", "--num-epochs", "num_epochs", help="The number of epochs, for example 20. Short for params.epochs=…"
)
@click.option("--retry-failed", is_flag=True, help="Train the seed again if it failed. The old record is kept.")
@options.report_json
@click.option(
    "--metrics",
    metavar="WHERE",
    help="Where to find a program's metrics, for example 'val_acc={number}'. See sweep run --help.",
)
@click.pass_context
def ml_train(
    ctx: click.Context,
    config: str | None,
    overrides: tuple[str, ...],
    seed: str | None,
    deterministic: bool | None,
    out: str | None,
    lr: str | None,
    batch_size: str | None,
    num_epochs: str | None,
    retry_failed: bool,
    as_json: bool,
    metrics: str | None,
) -> int:
    """Train one model, bit for bit as that seed is trained inside a sweep, into the same directory.

    `ml-train --seed 42`, `ml-train --seed 123` and so on train a sweep one seed at a time; `sweep report` reports it.
    """
    from sweep.cli.conduct import conduct
    from sweep.cli.run import configured, rebirth
    from sweep.errors import StoreError
    from sweep.start import start
    from sweep.store.remote import located
    from sweep.worker import forked

    given = {"lr": lr, "batch_size": batch_size, "num_epochs": num_epochs}
    short = tuple(f"{SHORT[name]}={value}" for name, value in given.items() if value is not None)
    command = ctx.obj["command"]
    first = configured(config, (*overrides, *short), command, metrics=metrics, deterministic=deterministic, seed=seed)
    # `seed` itself stays the config's: with `vary` it is what the other streams are held at.
    checked = configured(
        config, (*overrides, *short), command, metrics=metrics, deterministic=deterministic, seeds=str(first.seed)
    )
    rebirth(checked.deterministic)
    if forked.planned(checked):
        forked.start(deterministic=checked.deterministic)  # it loads while what it will train is found
    remote = None if out is None else located(out)[1]
    if remote is not None:
        raise StoreError(
            "ml-train writes to a directory, not to a URL", where=remote.url,
            hint=f"sweep run --seeds {first.seed} --out {remote.url} trains the same model",
        )  # fmt: skip
    launch = start(checked, out, "inline", only=checked.seeds, retry_failed=retry_failed)
    return conduct(launch, as_json=as_json, single=True)
