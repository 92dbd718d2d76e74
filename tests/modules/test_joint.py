"""Jointly trained, the estimator's loss reaches the locator through the crop, as far as the box rule lets it."""

import pytest
import torch
from tiny_run import settings

from baa.data.batch import Batch
from baa.modules.joint import JointModule
from baa.nets.view import Film

OPTIMISATION = {"loss": "mse", "optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "schedule": "constant"}
LOCATOR = {"backbone": "resnet10t", "px": 128}
CROPS = {
    "px": (48, 40),
    "rule": "moments",
    "spreads": (0.2, 0.2),  # a map that nobody has trained is hottest anywhere, at the rim too
    "smallest": (0.05, 0.05),
    "largest": (0.9, 0.9),
    "graph": "map",
}
ESTIMATOR = {"net": {"backbones": {"carpal": "resnet10t", "hand": "resnet10t"}, "conv_pool": [], "width": 16}}


def joint(crops=(), locator=(), optimisation=(), **arguments):
    torch.manual_seed(1)
    weights = {"locator_lr": 1e-5, "locator_weight": 0.0, "locator_loss": "mse"} | arguments
    module = JointModule(
        LOCATOR | dict(locator),
        CROPS | dict(crops),
        ESTIMATOR | {"optimisation": OPTIMISATION},
        OPTIMISATION | dict(optimisation),
        **weights,
    )
    with torch.no_grad():  # off the start, where residual branches end in zeros and a map is nearly flat
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        if module.cropper.reading == "relu":
            module.cropper.locator.head.age.layers[-1].weight.abs_()  # evidence for an older hand everywhere: no map is empty
    return module.double()


@pytest.fixture
def batch(phantom_batch):
    count = len(phantom_batch)
    unknown = torch.full((count, 2, 4), torch.nan)
    months, sex = torch.tensor([60.0, 100.0, 140.0, 180.0]).double(), torch.tensor([0, 1, 0, 1])
    return Batch(Film.plain(phantom_batch.double()), months, sex, torch.arange(count), unknown, unknown[:, 0, :2], unknown)


def slopes(module, batch, parameters):
    """Of the loss in a direction: by autograd, and by finite differences."""
    module.zero_grad()
    module.objective(batch)[1].backward()
    towards = [torch.randn_like(p) / p.numel() ** 0.5 for p in parameters]
    told = sum((p.grad * d).sum() for p, d in zip(parameters, towards, strict=True))
    step, losses = 1e-7, []  # longer ones cross kinks of the ReLUs
    with torch.no_grad():
        for sign in (1, -2, 1):  # ahead, behind, back
            for p, d in zip(parameters, towards, strict=True):
                p.add_(d, alpha=sign * step)
            losses.append(module.objective(batch)[1])
    return told, (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("reading", ["relu", "absolute", "deviation", "class"])
def test_the_gradient_through_the_crop_alone_is_that_of_finite_differences(batch, reading):
    module = joint(locator={"head": "distribution" if reading == "class" else "regression"}, crops={"reading": reading})
    trunk = [p for name, p in module.cropper.locator.named_parameters() if not name.startswith("head")]
    told, measured = slopes(module, batch, trunk)

    assert told.abs() > 1e-6
    assert told.item() == pytest.approx(measured.item(), rel=1e-3)


def test_differentiated_channel_weights_add_the_heads_share(batch):
    module = joint(crops={"graph": "weights"})
    weight = module.cropper.locator.head.age.layers[-1].weight
    told, measured = slopes(module, batch, [weight])

    assert told.abs() > 1e-6
    assert told.item() == pytest.approx(measured.item(), rel=1e-3)


@pytest.mark.parametrize("graph", ["map", "weights"])
@pytest.mark.parametrize(("head", "reading"), [("regression", "relu"), ("distribution", "absolute"), ("distribution", "class")])
def test_whatever_learns_has_a_gradient_so_that_ddp_has_nothing_to_wait_for(batch, graph, head, reading):
    module = joint(locator={"head": head}, crops={"reading": reading, "graph": graph})
    module.objective(batch)[1].backward()

    assert not [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert any(p.requires_grad for p in module.cropper.locator.head.parameters()) == (graph == "weights")


def test_boxes_of_peak_pass_nothing_on(batch):
    module = joint(crops={"rule": "peak"})
    assert not any(p.requires_grad for p in module.cropper.locator.parameters())
    assert "the locator stays as it is" in module.reach()

    module.cropper.locator.requires_grad_(True)
    module.objective(batch)[1].backward()
    assert all(p.grad is None for p in module.cropper.locator.parameters())


def test_the_loss_is_the_joint_fits_own(batch):
    squared, absolute = (joint(optimisation={"loss": loss}).objective(batch)[1] for loss in ("mse", "l1"))

    assert squared != absolute


def test_with_boxes_of_peak_the_locator_learns_from_its_own_loss_alone(batch):
    module = joint(crops={"rule": "peak"}, locator_weight=0.3)
    module.objective(batch)[1].backward()
    locator = module.cropper.locator
    learnt = {name: p.grad.clone() for name, p in locator.named_parameters()}
    locator.zero_grad()
    (0.3 * locator.head.age.loss(locator(batch.film.view(LOCATOR["px"])), batch.months, "mse")).backward()

    for name, parameter in locator.named_parameters():
        torch.testing.assert_close(learnt[name], parameter.grad)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_estimators_statistics_stay_or_move_and_the_locators_stay(batch, frozen):
    module = joint(frozen_statistics=frozen)
    before = {name: buffer.clone() for name, buffer in module.named_buffers() if "running_mean" in name}
    module.objective(batch)

    moved = {name for name, buffer in module.named_buffers() if name in before and not buffer.equal(before[name])}
    assert moved == (set() if frozen else {name for name in before if name.startswith("estimator")})


def test_frozen_groups_of_layers_learn_nothing(batch):
    module = joint(frozen_groups=(1, 2))
    backbones = [module.cropper.locator.backbone, module.estimator.net.stream("hand").backbone]
    still = [{name for name, p in b.net.named_parameters() if not p.requires_grad} for b in backbones]

    assert {name.split(".")[0] for name in still[0]} == {"conv1", "bn1"}
    assert {name.split(".")[0] for name in still[1]} == {"conv1", "bn1", "layer1"}


def test_each_network_has_its_own_learning_rate():
    module = joint(locator_lr=5e-6, locator_weight=0.1)
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "gradient_clip_val": None})()
    optimizer = module.configure_optimizers()

    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 5e-6]


def test_the_rate_rises_for_the_share_of_the_fit_that_is_asked_for():
    module = joint(optimisation={"schedule": "constant", "warmup": 0.4})
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "gradient_clip_val": None})()
    made = module.configure_optimizers()
    rates = []
    for _ in range(6):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()

    assert rates == pytest.approx([0.25e-4, 0.5e-4, 0.75e-4, 1e-4, 1e-4, 1e-4])


def test_a_rise_of_a_single_step_is_none():
    module = joint(optimisation={"schedule": "onecycle", "warmup": 0.1})
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "gradient_clip_val": None})()

    assert 0.9e-4 < module.configure_optimizers()["optimizer"].param_groups[0]["lr"] <= 1e-4  # falling from the first step on


def test_recomputed_backbones_give_the_same_gradients(batch):
    from baa.assembly.modules import recompute_backbones

    gradients = []
    for recompute in (False, True):
        module = joint()
        if recompute:
            recompute_backbones(module)
        module.objective(batch)[1].backward()
        gradients.append([p.grad for p in module.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_run_of_all_three_stages_leaves_a_joint_checkpoint_that_suffices(tmp_path):
    from baa.assembly.modules import joint_module
    from baa.checkpoints.load import restore
    from baa.config.load import load
    from baa.evaluation.checkpoint import evaluate
    from baa.training.run import run

    more = ["stages=[locator,estimator,joint]", *(f"{s}.fit.epochs=1" for s in ("locator", "estimator", "joint"))]
    more += ["crops.rule=moments", "joint.fit.ema=0.9"]
    config = load(None, settings(tmp_path, *more))
    metrics = run(config)
    checkpoint = tmp_path / "tiny" / "joint" / "best.ckpt"
    judged = evaluate(checkpoint, [], split="test", out=tmp_path / "judged")

    assert judged["joint"]["test/mae"] == pytest.approx(metrics["joint"]["test/mae"], abs=1e-4)
    assert judged["joint"]["test/carpal_marked"] == metrics["joint"]["test/cases"]
    further, trained = joint_module(config, checkpoint).state_dict(), restore(checkpoint).module.state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in further.items() if name.startswith("estimator.net"))
