"""The solved head against scikit-learn's logistic regression on the same objective."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from tlkit.planning import rules
from tlkit.solver import l2_selection, principal_axes
from tlkit.solver import solve as solver
from tlkit.solver.l2_selection import Selection, solve_head
from tlkit.solver.solve import Solution, solve
from tlkit.tasks.classification import Classification
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.regression import Regression


def classification(classes: int) -> Classification:
    return Classification(tuple(f"class {i}" for i in range(classes)))


def features(n: int, d: int, classes: int, seed: int = 0, apart: float = 0.5):
    """Overlapping classes; features of very different means and scales, some correlated."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    centres = np.random.default_rng(1).normal(0, apart, (classes, d))
    x = centres[y] + random.normal(0, 1, (n, d))
    x[:, 0] += 0.9 * x[:, 1]
    x = x * np.logspace(-3, 2, d) + np.linspace(-5, 5, d)
    return x.astype(np.float32), y.astype(np.int32)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def answers(found: Solution, x: np.ndarray) -> np.ndarray:
    return softmax(x.astype(np.float64) @ found.kernel + found.bias)


def loss_of(p: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(p[np.arange(len(y)), y]).mean())


@pytest.mark.parametrize(
    ("n", "d", "classes"),
    [(200, 20, 3), (60, 150, 4), (300, 12, 2)],
    ids=["more examples", "more features", "two classes"],
)
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-3])
def test_it_finds_what_scikit_learn_finds(monkeypatch, n, d, classes, l2):
    monkeypatch.setattr(solver, "STRENGTHS", (l2,))
    x, y = features(n, d, classes)
    found = solve(x, y, x, y, classification(classes))
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # Theirs is C * summed loss + |kernel|^2 / 2; ours is the mean loss + l2 / 2 * |kernel|^2. With
    # two classes theirs is one column, the difference of our two, whose squares are half of its.
    strength = 1 / (n * l2) * (2 if classes == 2 else 1)
    reference = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
    reference.fit((x - mean) / scale, y)
    expected = reference.predict_proba((x - mean) / scale)
    np.testing.assert_allclose(answers(found, x), expected, atol=0.005)
    assert loss_of(answers(found, x), y) == pytest.approx(loss_of(expected, y), abs=1e-3)


def test_the_standardisation_is_inside_the_returned_weights():
    x, y = features(200, 20, 3)
    plain = solve(x, y, x, y, classification(3))
    factors, offsets = np.logspace(-2, 2, 20), np.linspace(3, -3, 20)
    moved = (x * factors + offsets).astype(np.float32)
    other = solve(moved, y, moved, y, classification(3))
    np.testing.assert_allclose(answers(other, moved), answers(plain, x), atol=0.01)
    assert other.l2 == plain.l2


def test_shapes_and_types():
    x, y = features(60, 10, 3)
    found = solve(x, y, x, y, classification(3))
    assert (found.kernel.shape, found.bias.shape) == ((10, 3), (3,))
    assert np.isfinite(found.kernel).all()
    assert np.isfinite(found.bias).all()


def test_its_own_numbers_are_those_of_its_weights():
    x, y = features(200, 20, 3)
    val_x, val_y = features(80, 20, 3, seed=5)
    found = solve(x, y, val_x, val_y, classification(3))
    step = next(s for s in found.path if s.l2 == found.l2)
    for seen, truth, loss, accuracy in (
        (x, y, step.loss, step.metric),
        (val_x, val_y, step.val_loss, step.val_metric),
    ):
        p = answers(found, seen)
        assert loss_of(p, truth) == pytest.approx(loss, abs=1e-3)
        assert (p.argmax(axis=1) == truth).mean() == pytest.approx(accuracy, abs=0.011)


def test_it_picks_the_strength_with_the_lowest_validation_loss():
    x, y = features(60, 100, 3, apart=0.3)
    val_x, val_y = features(200, 100, 3, seed=5, apart=0.3)
    found = solve(x, y, val_x, val_y, classification(3))
    losses = [step.val_loss for step in found.path]
    assert found.l2 == found.path[int(np.argmin(losses))].l2
    assert 0 < np.argmin(losses) < len(losses) - 1
    strengths = [step.l2 for step in found.path]
    assert strengths == sorted(strengths, reverse=True)


def test_the_path_ends_when_validation_gets_no_better():
    x, y = features(40, 100, 3)
    _, val_y = features(40, 100, 3)
    val_x, _ = features(40, 100, 3, seed=9, apart=0.0)  # nothing to be learnt for these
    found = solve(x, y, val_x, val_y, classification(3))
    assert len(found.path) < len(solver.STRENGTHS)
    lowest = int(np.argmin([step.val_loss for step in found.path]))
    assert len(found.path) - 1 - lowest == solver.PATIENCE


def test_a_feature_that_never_changes_does_no_harm():
    x, y = features(100, 10, 3)
    x[:, 4] = 7.0
    found = solve(x, y, x, y, classification(3))
    assert np.isfinite(answers(found, x)).all()
    np.testing.assert_array_equal(found.kernel[4], 0)
    without = solve(np.delete(x, 4, axis=1), y, np.delete(x, 4, axis=1), y, classification(3))
    np.testing.assert_allclose(
        answers(found, x), answers(without, np.delete(x, 4, axis=1)), atol=1e-3
    )


def test_features_that_say_nothing_give_the_class_frequencies():
    x, y = np.ones((40, 6), np.float32), np.array([0] * 30 + [1] * 10, np.int32)
    found = solve(x, y, x, y, classification(2))
    np.testing.assert_allclose(answers(found, x)[0], [0.75, 0.25], atol=0.01)


def test_the_same_feature_twice_shares_its_weight():
    x, y = features(100, 5, 2)
    doubled = np.hstack([x, x])
    found = solve(doubled, y, doubled, y, classification(2))
    np.testing.assert_allclose(found.kernel[:5], found.kernel[5:], rtol=1e-3, atol=1e-4)


def test_separable_classes_stay_finite_and_are_told_apart():
    x, y = features(60, 200, 3, apart=5.0)
    val_x, val_y = features(60, 200, 3, seed=5, apart=5.0)
    found = solve(x, y, val_x, val_y, classification(3))
    assert np.isfinite(found.kernel).all()
    assert (answers(found, val_x).argmax(axis=1) == val_y).all()


def test_a_class_without_training_examples_is_never_predicted():
    x, y = features(90, 8, 3)
    found = solve(x, y, x, y, classification(4))
    assert found.kernel.shape == (8, 4)
    assert (answers(found, x).argmax(axis=1) < 3).all()


def test_the_order_of_the_examples_does_not_matter():
    x, y = features(120, 10, 3)
    order = np.random.default_rng(0).permutation(len(y))
    one, other = (
        solve(x, y, x, y, classification(3)),
        solve(x[order], y[order], x, y, classification(3)),
    )
    np.testing.assert_allclose(answers(one, x), answers(other, x), atol=5e-3)


def test_features_in_a_mapped_file_and_in_chunks_give_the_same_head(monkeypatch, tmp_path):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    x, y = features(300, 10, 3)
    held_out = features(90, 10, 3, seed=5)  # of the training part the weakest all have one loss
    whole = solve(x, y, *held_out, classification(3))
    monkeypatch.setattr(principal_axes, "IN_MEMORY", 0)
    monkeypatch.setattr(principal_axes, "CHUNK", 64)
    assert isinstance(principal_axes.fit_rotation(x).turn(x), np.memmap)
    found = solve(x, y, *held_out, classification(3))
    assert found.l2 == whole.l2
    np.testing.assert_allclose(answers(found, x), answers(whole, x), atol=5e-3)
    assert list((tmp_path / "cache").iterdir()) == []  # it has no name, and goes by itself


def test_labels_are_solved_as_one_logistic_regression_each(monkeypatch):
    l2 = 1e-2
    monkeypatch.setattr(solver, "STRENGTHS", (l2,))
    x, y = features(200, 20, 4)
    targets = np.stack([y > 1, y % 2 == 0], axis=1).astype(np.float32)
    found = solve(x, targets, x, targets, Multilabel(("big", "even")))
    standard = StandardScaler().fit_transform(x)
    for i in range(2):
        theirs = LogisticRegression(C=1 / (l2 * len(x)), max_iter=10_000, tol=1e-8)
        theirs.fit(standard, targets[:, i])
        expected = theirs.decision_function(standard)
        got = x.astype(np.float64) @ found.kernel[:, i] + found.bias[i]
        np.testing.assert_allclose(got, expected, atol=0.02)


def test_numbers_are_solved_as_ridge_regression(monkeypatch):
    l2 = 1e-2
    monkeypatch.setattr(solver, "STRENGTHS", (l2,))
    x, y = features(200, 20, 4)
    targets = np.stack([y * 100.0 + 7, -y + x[:, 3]], axis=1).astype(np.float32)
    task = Regression(("a", "b")).fit(targets)
    found = solve(x, targets, x, targets, task)
    standard = StandardScaler().fit_transform(x)
    theirs = Ridge(alpha=l2 * len(x)).fit(standard, task.scaled(targets))
    got = x.astype(np.float64) @ found.kernel + found.bias
    np.testing.assert_allclose(got, theirs.predict(standard), atol=2e-3)


def test_numbers_choose_the_strength_by_validation_loss():
    x, _ = features(60, 150, 4)
    random = np.random.default_rng(0)
    targets = (x[:, :1] / x[:, 0].std() + random.normal(0, 1, (60, 1))).astype(np.float32)
    task = Regression(("a",)).fit(targets[:40])
    found = solve(x[:40], targets[:40], x[40:], targets[40:], task)
    losses = [step.val_loss for step in found.path]
    assert found.l2 == found.path[int(np.argmin(losses))].l2
    assert len(set(losses)) > 3


# The choice of the strength


def test_a_strength_that_is_asked_for_is_solved_for():
    x, y = features(60, 100, 3)
    asked = solver.STRENGTHS[2]
    found = solve(x, y, x, y, classification(3), l2=asked)
    assert found.l2 == asked
    assert [step.l2 for step in found.path] == list(solver.STRENGTHS[:3])


def test_a_tiny_validation_part_leaves_the_choice_to_folds():
    x, y = features(240, 30, 3)
    few, many = slice(0, 9), slice(0, rules.TINY_VALIDATION)
    by_folds = solve_head(x, y, x[few], y[few], classification(3))
    assert "5-fold cross-validation (9 validation images: fewer than" in by_folds.reason
    by_loss = solve_head(x, y, x[many], y[many], classification(3))
    assert "by validation loss" in by_loss.reason
    assert by_loss.solution.l2 == solve(x, y, x[many], y[many], classification(3)).l2


def test_folds_do_not_follow_one_odd_validation_part():
    """Validation images with wrong labels ask for the strongest penalty; folds outvote them."""
    x, y = features(300, 20, 3, apart=1.0)
    val_x, val_y = x[:6], (y[:6] + 1) % 3
    misled = solve_head(
        x[6:], y[6:], val_x, val_y, classification(3), Selection(choice="validation")
    )
    found = solve_head(x[6:], y[6:], val_x, val_y, classification(3), Selection(choice="folds"))
    assert misled.solution.l2 > found.solution.l2


def test_the_seed_fixes_the_folds():
    x, y = features(60, 30, 3)
    one, two = (
        solve_head(x, y, x[:9], y[:9], classification(3), Selection(choice="folds", seed=4))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.delivered.kernel, two.delivered.kernel)


def test_a_class_with_one_example_is_solved_for_in_every_fold(monkeypatch):
    x, y = features(40, 10, 3)
    y[y == 2] = 1
    y[0] = 2
    inside = []

    def watched(x, y, val_x, val_y, *rest):
        inside.append((2 in y, 2 in val_y))
        return solve(x, y, val_x, val_y, *rest)

    monkeypatch.setattr(l2_selection, "solve", watched)
    found = solve_head(x[:30], y[:30], x[30:], y[30:], classification(3), Selection(choice="folds"))
    assert "by 5-fold cross-validation" in found.reason
    assert inside[:5] == [(True, False)] * 5
    assert np.isfinite(found.folded.loss)


def test_classes_of_one_example_each_leave_the_choice_to_validation():
    x, _ = features(9, 10, 3)
    y = np.arange(9, dtype=np.int32)
    found = solve_head(x[:8], y[:8], x[8:], y[8:], classification(9), Selection(choice="folds"))
    assert "by validation loss (too few examples of a class for folds)" in found.reason


def near_copies(groups: int, size: int):
    """Groups of `size` near copies, each group of a random class: nothing can be learnt."""
    random = np.random.default_rng(0)
    number = np.repeat(np.arange(groups), size)
    x = random.normal(0, 1, (groups, 40))[number] + random.normal(0, 0.01, (len(number), 40))
    y = (np.arange(groups) % 2)[number]
    order = random.permutation(len(y))
    return x[order].astype(np.float32), y[order].astype(np.int32), number[order]


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_near_copies_on_both_sides_of_a_fold_deceive_and_groups_do_not(kind):
    x, y, groups = near_copies(60, 5)
    task = classification(2)
    if kind != "classes":
        y = y[:, None].astype(np.float32)
        task = Multilabel(("a",)) if kind == "labels" else Regression(("a",)).fit(y)
    deceived = l2_selection.cross_validated(x, y, task)
    honest = l2_selection.cross_validated(x, y, task, Selection(groups=groups))
    assert honest.folds == deceived.folds == 5
    assert deceived.loss < 0.7 * honest.loss
    alone = l2_selection.cross_validated(x, y, task, Selection(groups=np.arange(len(y))))
    assert (kind == "classes") or alone == deceived


@pytest.mark.parametrize("kind", ["classes", "several classes", "labels"])
def test_groups_stay_whole_in_folds(monkeypatch, kind):
    x, y, groups = near_copies(12, 4)
    if kind == "several classes":
        y = np.random.default_rng(2).integers(0, 3, len(y))
    task = classification(3)
    if kind == "labels":
        y, task = np.stack([y == 0, y == 1], axis=1).astype(np.float32), Multilabel(("a", "b"))
    x[:, 0] = groups  # to be known again
    seen = []

    def watched(x, y, val_x, val_y, *rest):
        seen.append((set(x[:, 0]), set(val_x[:, 0])))
        return solve(x, y, val_x, val_y, *rest)

    monkeypatch.setattr(l2_selection, "solve", watched)
    found = l2_selection.cross_validated(x, y, task, Selection(groups=groups))
    assert len(seen) == found.folds == 5
    assert all(not inside & outside for inside, outside in seen)
    assert set.union(*(outside for _, outside in seen)) == set(range(12))


def test_too_few_groups_of_a_class_leave_the_choice_to_validation():
    x, y, _ = near_copies(12, 4)
    groups = y.copy()  # each class is one group
    found = solve_head(
        *(x[:36], y[:36], x[36:], y[36:], classification(2)),
        Selection(choice="folds", groups=groups),
    )
    assert "by validation loss (too few groups of a class for folds)" in found.reason


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_folds_for_labels_and_numbers(kind):
    x, y = features(80, 10, 3)
    targets = np.stack([y > 0, y == 2], axis=1).astype(np.float32)
    names = ("a", "b")
    task = Multilabel(names) if kind == "multilabel" else Regression(names).fit(targets)
    found = solve_head(x[:60], targets[:60], x[60:], targets[60:], task, Selection(choice="folds"))
    assert "5-fold cross-validation (as asked for)" in found.reason
    assert np.isfinite(found.delivered.kernel).all()


def test_a_refit_is_solved_on_both_parts_with_the_strength_chosen():
    x, y = features(150, 20, 3)
    found = solve_head(x[:90], y[:90], x[90:], y[90:], classification(3), Selection(refit=True))
    both = solve(x, y, x, y, classification(3), l2=found.solution.l2)
    np.testing.assert_allclose(answers(found.delivered, x), answers(both, x), atol=1e-4)
    assert not np.allclose(found.delivered.kernel, found.solution.kernel)
    without = solve_head(x[:90], y[:90], x[90:], y[90:], classification(3))
    assert without.delivered is without.solution
    np.testing.assert_array_equal(without.solution.kernel, found.solution.kernel)


# Convergence


def saturated(kind: str, n: int = 150, d: int = 200):
    """Features as a network's pooled ones: not negative, of quickly falling variances; and targets
    that weak L2 strengths fit all but exactly."""
    random = np.random.default_rng(3)
    y = (np.arange(n) % 6).astype(np.int32)
    z = random.normal(0, 1, (n, d)) * np.logspace(0, -3, d)
    z[:, :6] += 1.5 * np.eye(6)[y]
    turned, _ = np.linalg.qr(random.normal(0, 1, (d, d)))
    x = np.maximum(z @ turned + 0.02, 0).astype(np.float32)
    if kind == "labels":
        return x, np.stack([y > 2, y % 2 == 0, y == 5], axis=1).astype(np.float32)
    if kind == "two classes":
        return x, (y > 2).astype(np.int32)
    return x, y


def lowest(x, targets, l2: float, kind: str, weights: np.ndarray) -> float:
    """The lowest objective, in double precision."""

    n, k = targets.shape

    def value(flat):
        w = flat.reshape(-1, k)
        raw = x @ w[:-1] + w[-1]
        if kind == "labels":
            p, loss = expit(raw), np.logaddexp(0, raw) - targets * raw
        else:
            log_p = log_softmax(raw, axis=1)
            p, loss = np.exp(log_p), -targets * log_p
        residual = weights * (p - targets) / n
        slope = np.vstack([x.T @ residual + l2 * w[:-1], residual.sum(axis=0)])
        return (weights * loss).sum() / n + l2 / 2 * np.square(w[:-1]).sum(), slope.ravel()

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0, "gtol": 1e-8, "maxcor": 50}
    start = np.zeros((x.shape[1] + 1) * k)
    return minimize(value, start, jac=True, method="L-BFGS-B", options=options).fun


@pytest.mark.parametrize("kind", ["classes", "two classes", "labels", "weighted", "more examples"])
def test_every_strength_on_the_path_is_solved(monkeypatch, kind):
    """Also the weakest, where the objective is a thousandth of what it is at the strongest."""
    monkeypatch.setattr(solver, "PATIENCE", 100)
    seen = []
    original = solver._minimise

    def watched(x, targets, variances, l2, *rest):
        weights, gap = original(x, targets, variances, l2, *rest)
        seen.append((x, targets, l2, weights, gap))
        return weights, gap

    monkeypatch.setattr(solver, "_minimise", watched)
    x, y = saturated(kind) if kind != "more examples" else saturated(kind, 400, 30)
    task = Multilabel(("a", "b", "c")) if kind == "labels" else classification(int(y.max()) + 1)
    weights = np.linspace(0.2, 1.8, len(y)) if kind == "weighted" else None
    found = solve(x, y, x, y, task, weights)
    assert len(found.path) == len(solver.STRENGTHS)
    assert found.unsolved == []
    importance = np.ones((len(y), 1)) if weights is None else weights[:, None]
    for turned, targets, l2, w, gap in seen[::9]:
        turned, w = turned.astype(np.float64), w.astype(np.float64)
        n, raw = len(turned), turned @ w[:-1] + w[-1]
        losses = (
            np.logaddexp(0, raw) - targets * raw
            if kind == "labels"
            else -targets * np.log(softmax(raw))
        )
        got = (importance * losses).sum() / n + l2 / 2 * np.square(w[:-1]).sum()
        best = lowest(turned, targets, l2, kind, importance)
        assert -1e-6 <= got / best - 1 <= max(gap, 1e-6) * 1.01
        assert gap <= solver.TOLERANCE


def test_a_weak_strength_is_solved_as_scikit_learn_solves_it(monkeypatch):
    monkeypatch.setattr(solver, "STRENGTHS", (1e-4,))
    x, y = saturated("classes")
    found = solve(x, y, x, y, classification(6))
    standard = StandardScaler().fit_transform(x.astype(np.float64))
    theirs = LogisticRegression(C=1 / (len(y) * 1e-4), tol=1e-8, max_iter=10_000).fit(standard, y)
    reference = loss_of(theirs.predict_proba(standard), y)
    reference += 1e-4 / 2 * np.square(theirs.coef_).sum()
    kernel = found.kernel.astype(np.float64) * x.std(axis=0, dtype=np.float64)[:, None]
    got = loss_of(answers(found, x), y) + 1e-4 / 2 * np.square(kernel).sum()
    assert got == pytest.approx(reference, rel=1.5e-3)


def test_what_did_not_converge_is_said(monkeypatch):
    monkeypatch.setattr(solver, "ITERATIONS", 2)
    monkeypatch.setattr(solver, "TOLERANCE", 1e-6)
    x, y = saturated("classes")
    found = solve_head(
        x[:120], y[:120], x[120:], y[120:], classification(6), Selection(choice="validation")
    )
    assert found.solution.unsolved
    assert "; not converged to 0.1% of the lowest objective: L2 " in found.reason
    monkeypatch.undo()
    found = solve_head(
        x[:120], y[:120], x[120:], y[120:], classification(6), Selection(choice="validation")
    )
    assert "converged" not in found.reason


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_single_answer_for_all_converges(kind):
    """The bias alone would go on for ever: no loss is the lowest."""
    x, _ = features(50, 8, 3)
    y = np.zeros(50, np.int32)
    task = classification(2)
    if kind == "sigmoid":
        y, task = np.ones((50, 1), np.float32), Multilabel(("a",))
    found = solve(x, y, x, y, task)
    assert np.isfinite(found.kernel).all()
    assert np.isfinite(found.bias).all()
    assert found.path[-1].metric == 1
    assert found.unsolved == []
