"""Alignment against the peers, in one run: seconds, ratios, and what is compared to the last digit.

ridge     500 x 5,920, an alpha a target of 7, with a test set: himalaya's KernelRidgeCV and RidgeCV, scikit-learn's
          RidgeCV
himalaya  himalaya's default benchmark: 3,000 x 1,000, 30,000 targets, 20 alphas
rsa       Pearson RDM of 1,000 x 7,310 and its comparison by Spearman; 1,000 bootstraps of an RSA score: rsatoolbox
job       320 PNGs, AlexNet, 19 maps, projection, ridge on 4,000 targets, cRSA, eRSA: ours, and an assembly of
          torchvision, scikit-learn, himalaya and rsatoolbox (perf/alignment_job.py)
gpu       500 x 5,920, 29,480 targets on a GPU: seconds a layer, and the share of the matrix throughput (--device cuda)

usage: python perf/alignment.py [ridge himalaya rsa job gpu] [--quick] [--rounds 3] [--device cuda] [--out FILE]

Times are the least of the rounds; ours and the peers' take turns. --quick tries everything at a tenth of the size: its
ratios mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import alignment_job
import numpy as np
import torch
from recording import record
from torch import Tensor

from deepjuice.alignment import TorchRidgeGCV, compare_rdms, compute_rdm, pearsonr, upper_triangle
from deepjuice.alignment.inference.bootstrap import GeometryResampler
from deepjuice.alignment.inference.resampling import ResamplingPlan

ALPHAS = np.logspace(-1, 5, 7)
Work = Callable[[], object]


def race(works: dict[str, Work], rounds: int) -> tuple[dict[str, float], dict[str, object]]:
    """Run all in turn, several times; return the best time of each and what it gave last."""
    times: dict[str, list[float]] = {name: [] for name in works}
    results = {}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            results[name] = work()
            times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}, results


def line(job: str, ours: float, peer: str, theirs: float, goal: float) -> str:
    """Return a row of the table."""
    verdict = "met" if theirs / ours >= goal else "MISSED"
    return f"{job:34} {ours:9.3f} s {peer:44} {theirs:9.2f} s {theirs / ours:7.1f} x {goal:5g} x  {verdict}"


def simulate(n_train: int, n_test: int, n_features: int, n_targets: int) -> list[Tensor]:
    """Return X_train, Y_train, X_test, Y_test, float32: correlated features, and targets with half noise."""
    generator = torch.Generator().manual_seed(0)
    n = n_train + n_test
    latent = torch.randn(n, n, generator=generator) * torch.arange(1, n + 1) ** -0.5
    X = latent @ torch.randn(n, n_features, generator=generator) + 1
    signal = latent[:, :100] @ torch.randn(min(100, n), n_targets, generator=generator)
    Y = signal / signal.std() + torch.randn(n, n_targets, generator=generator)
    return [X[:n_train], Y[:n_train], X[n_train:], Y[n_train:]]


def fit_ours(X: Tensor, Y: Tensor, X_test: Tensor, alphas: np.ndarray, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return test predictions and chosen alphas."""
    model = TorchRidgeGCV(alphas, device=device).fit(X, Y)
    return model.predict(X_test), model.alpha_


def himalaya_works(X: Tensor, Y: Tensor, X_test: Tensor, alphas: np.ndarray) -> dict[str, Work]:
    """Return himalaya's ways: two estimators as they are called by default, and 3,000 targets at a time.

    All fit, choose alphas and predict, as ours does, and are given z-scored features.
    """
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV

    set_backend("torch")

    def work(kind: type, batch: int | None) -> Tensor:
        mean, std = X.mean(dim=0), X.std(dim=0, correction=0)
        options = {"warn": False} if kind is KernelRidgeCV else {}
        params = {"n_targets_batch": batch} | ({"warn": False} if kind is RidgeCV else {})
        model = kind(alphas, cv=5, fit_intercept=True, solver_params=params, **options)
        return model.fit((X - mean) / std, Y).predict((X_test - mean) / std)

    return {
        f"himalaya {kind.__name__}{', 3,000 targets at a time' if batch else ''}": lambda k=kind, b=batch: work(k, b)
        for kind in (KernelRidgeCV, RidgeCV)
        for batch in (None, 3000)
    }


def against_himalaya(job: str, data: list[Tensor], alphas: np.ndarray, goal: float, rounds: int) -> Iterator[str]:
    """Yield a line for himalaya's faster estimator, called by default, its other times, and the test scores of all."""
    X, Y, X_test, Y_test = data
    peers = himalaya_works(X, Y, X_test, alphas)
    times, results = race({"ours": lambda: fit_ours(X, Y, X_test, alphas)[0], **peers}, rounds)
    best = min((name for name in peers if "at a time" not in name), key=times.get)
    yield line(job, times["ours"], best, times[best], goal)
    scores = {name: pearsonr(Y_test, predicted).mean().item() for name, predicted in results.items()}
    better = "at least as good" if scores["ours"] >= max(scores.values()) - 1e-4 else "WORSE"
    yield f"    mean r on test: ours {scores['ours']:.4f}, {best} {scores[best]:.4f}: {better}"
    yield "    " + "; ".join(f"{name} {times[name]:.2f} s, {scores[name]:.4f}" for name in peers if name != best)


def ridge(quick: bool, rounds: int, device: str) -> Iterator[str]:
    """The job of one layer of a model."""
    small = 10 if quick else 1
    X, Y, X_test, _ = data = simulate(500 // small, 500 // small, 5920 // small, 12_000 // small)
    job = f"ridge {tuple(X.shape)}, {Y.shape[1]} targets"
    yield from against_himalaya(job, data, ALPHAS, 8, rounds)
    yield from against_himalaya("the same, float64", [values.double() for values in data], ALPHAS, 8, rounds)
    Y = Y[:, : 3000 // small]

    def scikit_learn() -> np.ndarray:
        from sklearn.linear_model import RidgeCV
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(X.numpy().astype(np.float64))
        model = RidgeCV(ALPHAS, alpha_per_target=True).fit(scaler.transform(X.numpy().astype(np.float64)), Y.numpy())
        model.predict(scaler.transform(X_test.numpy().astype(np.float64)))
        return model.alpha_

    works = {"ours": lambda: fit_ours(X, Y, X_test, ALPHAS)[1].numpy(), "peer": scikit_learn}
    times, alphas = race(works, rounds)
    yield line(f"the same, {Y.shape[1]} targets", times["ours"], "scikit-learn RidgeCV", times["peer"], 15)
    n_other = int((~np.isclose(alphas["ours"], alphas["peer"])).sum())
    yield f"    alphas: {n_other} of {len(alphas['ours'])} are others: {'identical' if not n_other else 'DIFFERENT'}"


def himalaya(quick: bool, rounds: int, device: str) -> Iterator[str]:
    """himalaya's own default benchmark, which needs the same products."""
    small = 10 if quick else 1
    data = simulate(3000 // small, 300 // small, 1000 // small, 30_000 // small)
    job = f"ridge {tuple(data[0].shape)}, {data[1].shape[1]} targets"
    yield from against_himalaya(job, data, np.logspace(-5, 5, 20), 1, min(rounds, 2))


def rsa(quick: bool, rounds: int, device: str) -> Iterator[str]:
    """RDMs, their comparison, and bootstraps of it."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs, calc_rdm, compare

    n, p = (100, 731) if quick else (1000, 7310)
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, p, generator=generator)
    brains = torch.stack([compute_rdm(X[:, :500] + torch.randn(n, 500, generator=generator)) for _ in range(4)])
    pairs = RDMs(upper_triangle(brains).numpy())

    def ours() -> tuple[Tensor, float]:
        rdm = compute_rdm(X)
        return rdm, compare_rdms(rdm, brains[0], "spearman")

    def rsatoolbox() -> tuple[np.ndarray, float]:
        rdm = calc_rdm(Dataset(X.numpy()), method="correlation")
        return rdm.dissimilarities[0], compare(rdm, pairs[0], "spearman").item()

    times, found = race({"ours": ours, "peer": rsatoolbox}, rounds)
    yield line(f"RDM of {n} x {p}, by spearman", times["ours"], "rsatoolbox calc_rdm + compare", times["peer"], 10)
    (rdm, score), (peer_rdm, peer_score) = found["ours"], found["peer"]
    apart = np.abs(upper_triangle(rdm).numpy() - peer_rdm).max()
    yield f"    apart (its RDM is of float32): RDM {apart:.0e}, comparison {abs(score - peer_score):.0e}"
    for comparison, name in (("pearson", "corr"), ("spearman", "spearman")):
        yield from bootstraps(rdm, brains, pairs, comparison, name, rounds)


def bootstraps(rdm: Tensor, brains: Tensor, pairs: object, comparison: str, name: str, rounds: int) -> Iterator[str]:
    """1,000 of ours, the preparation of the brain's side included; the peer's from the difference of 12 and 2."""
    from rsatoolbox.inference import eval_bootstrap_pattern
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    model = ModelFixed("ours", RDMs(upper_triangle(rdm).numpy()[None]))

    def ours() -> Tensor:
        plan = ResamplingPlan.draw(len(rdm), n_bootstraps=1000, n_permutations=1)
        return GeometryResampler(plan, brains, comparison).bootstrap(rdm)

    def peer(n_bootstraps: int) -> np.ndarray:
        return eval_bootstrap_pattern(model, pairs, method=name, N=n_bootstraps, boot_noise_ceil=False).evaluations

    times, found = race({"ours": ours, "12": lambda: peer(12), "2": lambda: peer(2)}, rounds)
    theirs = (times["12"] - times["2"]) * 100
    job = f"1,000 bootstraps, {comparison}, {len(brains)} RDMs"
    yield line(job, times["ours"], "rsatoolbox eval_bootstrap_pattern, 10 x 100", theirs, 50)
    yield f"    mean of resamples: ours {found['ours'].mean():.4f}, peer {found['12'].mean():.4f}"


def job(quick: bool, rounds: int, device: str) -> Iterator[str]:
    """The whole job, each side in a process of its own, once."""
    n_pictures, n_targets, eps = (32, 400, 0.3) if quick else (320, 4000, 0.1)
    sides = alignment_job.run(n_pictures, n_targets, eps)
    ours, peer, again = sides["ours"], sides["peer"], sides["peer, another seed"]
    name = f"{n_pictures} PNGs to {n_targets} targets"
    yield line(name, ours.seconds["all"], "torchvision + sklearn + himalaya + rsatoolbox", peer.seconds["all"], 15)
    for side, found in sides.items():
        yield f"    {side}: " + ", ".join(f"{part} {took:.1f} s" for part, took in found.seconds.items())
    share = ours.peak / peer.peak
    verdict = "met" if share <= 0.5 else "MISSED"
    yield f"    peak memory: ours {ours.peak:.2f} GB, peer {peer.peak:.2f} GB; {share:.2f} of it, goal 0.5: {verdict}"
    for metric, scores in ours.scores.items():
        seeds, apart = np.abs(peer.scores[metric] - again.scores[metric]), np.abs(peer.scores[metric] - scores)
        yield (
            f"    {metric}: mean {scores.mean():.4f}, peer {peer.scores[metric].mean():.4f}; apart {apart.mean():.4f} "
            f"(largest {apart.max():.4f}), two seeds of the peer {seeds.mean():.4f} (largest {seeds.max():.4f})"
        )


def gpu(quick: bool, rounds: int, device: str) -> Iterator[str]:
    """NSD's shape on a device: seconds a layer, and the share of what one large product reaches there."""
    if device == "cpu" and not quick:
        yield "gpu: not run; --device cuda asks for it"
        return
    small = 10 if quick else 1
    X, Y, X_test, _ = (
        values.to(device) for values in simulate(500 // small, 500 // small, 5920 // small, 29_480 // small)
    )
    size = 8192 // small
    square = torch.randn(size, size, device=device)

    def product() -> float:
        return (square @ square)[0, 0].item()  # reading a value waits for the end

    def layer() -> float:
        return fit_ours(X, Y, X_test, ALPHAS, device)[0][0, 0].item()

    times, _ = race({"product": product, "layer": layer}, max(2, rounds))
    n, p = X.shape
    n_targets = Y.shape[1]
    work = 2 * n * p * (n + len(X_test)) + 2 * n * n * n_targets * (len(ALPHAS) + 2) + 2 * len(X_test) * n * n_targets
    share = (work / times["layer"]) / (2 * size**3 / times["product"])
    yield f"{device}: {tuple(X.shape)}, {n_targets} targets, {len(ALPHAS)} alphas: {times['layer']:.3f} s a layer"
    yield f"    {work / times['layer'] / 1e12:.2f} Tflop/s, {share:.1%} of a float32 product's ({size} x {size})"


SECTIONS = {function.__name__: function for function in (ridge, himalaya, rsa, job, gpu)}


def main() -> None:
    """Print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help=f"of {', '.join(SECTIONS)} (all)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, to see that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of the section gpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "alignment.txt")
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"unknown sections {', '.join(sorted(unknown))}; known are {', '.join(SECTIONS)}")
    head = f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}; best of {args.rounds}"
    head += "; A TENTH OF THE SIZE" if args.quick else ""
    titles = f"{'':34} {'ours':>11} {'peer':44} {'':>11} {'ratio':>9} {'goal':>7}"
    rounds = 1 if args.quick else args.rounds
    tables = (SECTIONS[section](args.quick, rounds, args.device) for section in args.sections)
    record(chain([head, "", titles], chain.from_iterable(tables)), args.out)


if __name__ == "__main__":
    main()
