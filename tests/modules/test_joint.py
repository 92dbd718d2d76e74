"""In joint training the estimator's loss reaches the locator through the crop, as far as the box method allows it."""

import pytest
import torch
from tiny_run import settings

from baa.data.batch import Batch
from baa.modules.joint import JointModule
from baa.nets.attention import Attribution
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.locator import Locator
from baa.nets.regions import Region
from baa.nets.two_stage import BoneAgeModel
from baa.nets.view import View

OPTIMIZATION = {"loss": "mse", "optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "schedule": "constant"}
LOCATOR_PX = 128
LIMITS = {"min_side": 0.05, "max_side": 0.9, "fallback_side": 0.5}
PRIOR_SIGMA = 0.2
"""The map of an untrained locator is hottest anywhere, at the border too."""

REGIONS = {
    "carpal": Region(48, extent=1.5, prior_center=(0.5, 0.69), prior_sigma=PRIOR_SIGMA, **LIMITS),
    "hand": Region(40, extent=2.0, prior_center=(0.5, 0.4), prior_sigma=PRIOR_SIGMA, **LIMITS),
}


def joint(crops=(), locator=(), optimization=(), **arguments):
    torch.manual_seed(1)
    cropper = RegionCropper(
        Locator(**{"backbone": "resnet10t", "px": LOCATOR_PX} | dict(locator)),
        REGIONS,
        **{"box_method": "moments", "differentiable": "map"} | dict(crops),
    )
    estimator = Estimator(backbones={"carpal": "resnet10t", "hand": "resnet10t"}, conv_pool=(), fusion={"width": 16})
    weights = {"locator_lr": 1e-5, "locator_weight": 0.0, "locator_loss": "mse"} | arguments
    module = JointModule(BoneAgeModel(cropper, estimator), **weights, **OPTIMIZATION | dict(optimization))
    with torch.no_grad():  # off the start, where residual branches end in zeros and a map is nearly flat
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        if cropper.attribution.mode == "relu":
            cropper.locator.head.age.layers[-1].weight.abs_()  # evidence for an older hand everywhere: no map is zero
    return module.double()


@pytest.fixture
def batch(phantom_batch):
    count = len(phantom_batch)
    unknown = torch.full((count, 2, 4), torch.nan)
    months, sex = torch.tensor([60.0, 100.0, 140.0, 180.0]).double(), torch.tensor([0, 1, 0, 1])
    return Batch(View.of(phantom_batch.double()), months, sex, torch.arange(count), unknown, unknown[:, 0, :2], unknown)


def slopes(module, batch, parameters):
    """Slope of the loss in a random direction: by autograd, and by finite differences."""
    module.zero_grad()
    module.objective(batch)[1].backward()
    direction = [torch.randn_like(p) / p.numel() ** 0.5 for p in parameters]
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, direction, strict=True))
    step, losses = 1e-7, []  # longer ones cross kinks of the ReLUs
    with torch.no_grad():
        for sign in (1, -2, 1):  # ahead, behind, back
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=sign * step)
            losses.append(module.objective(batch)[1])
    return slope, (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("cam_mode", ["relu", "absolute", "deviation", "class"])
def test_the_gradient_through_the_crop_alone_is_that_of_finite_differences(batch, cam_mode):
    module = joint(
        locator={"head": "distribution" if cam_mode == "class" else "regression"},
        crops={"attribution": Attribution(mode=cam_mode)},
    )
    trunk = [p for name, p in module.cropper.locator.named_parameters() if not name.startswith("head")]
    slope, measured = slopes(module, batch, trunk)

    assert slope.abs() > 1e-6
    assert slope.item() == pytest.approx(measured.item(), rel=1e-3)


def test_differentiated_channel_weights_add_the_gradient_of_the_head(batch):
    module = joint(crops={"differentiable": "weights"})
    weight = module.cropper.locator.head.age.layers[-1].weight
    slope, measured = slopes(module, batch, [weight])

    assert slope.abs() > 1e-6
    assert slope.item() == pytest.approx(measured.item(), rel=1e-3)


LAYERS = Attribution(method="gradient_x_activation", mode="absolute", layers=["8", "16"], smoothing=0.05)


def test_a_map_of_middle_layers_is_differentiated_too(batch):
    module = joint(crops={"attribution": LAYERS, "differentiable": "weights"})
    module.cropper.regions["carpal"] = REGIONS["carpal"]._replace(flip_average=True)
    trunk = [p for name, p in module.cropper.locator.named_parameters() if not name.startswith("head")]
    slope, measured = slopes(module, batch, trunk)

    assert slope.abs() > 1e-6
    assert slope.item() == pytest.approx(measured.item(), rel=1e-3)


@pytest.mark.parametrize("auxiliary_stride", [None, 16])
def test_with_its_own_loss_every_layer_of_a_locator_with_such_a_map_is_trained(batch, auxiliary_stride):
    module = joint(crops={"attribution": LAYERS}, locator={"auxiliary_stride": auxiliary_stride}, locator_weight=0.1)
    module.objective(batch)[1].backward()

    assert not [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    trained = [name for name, p in module.named_parameters() if p.requires_grad and ".auxiliary." in name]
    assert len(trained) == (0 if auxiliary_stride is None else 2)


@pytest.mark.parametrize("differentiable", ["map", "weights"])
@pytest.mark.parametrize(
    ("head", "cam_mode"), [("regression", "relu"), ("distribution", "absolute"), ("distribution", "class")]
)
def test_every_parameter_that_requires_a_gradient_has_one_as_ddp_demands(batch, differentiable, head, cam_mode):
    module = joint(locator={"head": head}, crops={"attribution": Attribution(mode=cam_mode), "differentiable": differentiable})
    module.objective(batch)[1].backward()

    assert not [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert any(p.requires_grad for p in module.cropper.locator.head.parameters()) == (differentiable == "weights")


def test_boxes_of_peak_have_no_gradient(batch):
    module = joint(crops={"box_method": "peak"})
    assert not any(p.requires_grad for p in module.cropper.locator.parameters())
    assert "the locator is not trained" in module.describe_gradients()

    module.cropper.locator.requires_grad_(True)
    module.objective(batch)[1].backward()
    assert all(p.grad is None for p in module.cropper.locator.parameters())


def test_the_loss_is_that_of_the_joint_fit(batch):
    squared, absolute = (joint(optimization={"loss": loss}).objective(batch)[1] for loss in ("mse", "l1"))

    assert squared != absolute


def test_with_boxes_of_peak_the_locator_is_trained_by_its_own_loss_alone(batch):
    module = joint(crops={"box_method": "peak"}, locator_weight=0.3)
    module.objective(batch)[1].backward()
    locator = module.cropper.locator
    trained = {name: p.grad.clone() for name, p in locator.named_parameters()}
    locator.zero_grad()
    (0.3 * locator.head.age.loss(locator(batch.view.render(LOCATOR_PX)), batch.months, "mse")).backward()

    for name, parameter in locator.named_parameters():
        torch.testing.assert_close(trained[name], parameter.grad)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_batch_norm_statistics_of_the_locator_and_of_a_frozen_estimator_stay(batch, frozen):
    module = joint(frozen_statistics=frozen)
    before = {name: buffer.clone() for name, buffer in module.named_buffers() if "running_mean" in name}
    module.objective(batch)

    moved = {name for name, buffer in module.named_buffers() if name in before and not buffer.equal(before[name])}
    assert moved == (set() if frozen else {name for name in before if name.startswith("model.estimator")})


def test_frozen_groups_of_layers_are_not_trained(batch):
    module = joint(locator_frozen=1, estimator_frozen=2)
    backbones = [module.cropper.locator.backbone, module.estimator.stream("hand").backbone]
    frozen = [{name for name, p in b.net.named_parameters() if not p.requires_grad} for b in backbones]

    assert {name.split(".")[0] for name in frozen[0]} == {"conv1", "bn1"}
    assert {name.split(".")[0] for name in frozen[1]} == {"conv1", "bn1", "layer1"}


def test_each_network_has_its_own_learning_rate():
    module = joint(locator_lr=5e-6, locator_weight=0.1)
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "gradient_clip_val": None})()
    optimizer = module.configure_optimizers()

    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 5e-6]


def test_the_learning_rate_rises_during_the_warmup_share_of_the_steps():
    module = joint(optimization={"schedule": "constant", "warmup": 0.4})
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "gradient_clip_val": None})()
    configured = module.configure_optimizers()
    rates = []
    for _ in range(6):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()

    assert rates == pytest.approx([0.25e-4, 0.5e-4, 0.75e-4, 1e-4, 1e-4, 1e-4])


def test_a_warmup_of_a_single_step_is_left_out():
    module = joint(optimization={"schedule": "onecycle", "warmup": 0.1})
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "gradient_clip_val": None})()

    assert 0.9e-4 < module.configure_optimizers()["optimizer"].param_groups[0]["lr"] <= 1e-4  # it falls from the first step on


def test_gradient_checkpointing_gives_the_same_gradients(batch):
    from baa.assembly.modules import prepare
    from baa.config.schema import Config, TrainerConfig

    gradients = []
    for checkpointing in (False, True):
        config = Config(trainer=TrainerConfig(gradient_checkpointing=checkpointing))
        module = prepare(joint(), config)
        assert module.cropper.locator.backbone.net.grad_checkpointing == checkpointing
        module.objective(batch)[1].backward()
        gradients.append([p.grad for p in module.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.usefixtures("brief_finish")
def test_the_checkpoint_of_a_run_contains_the_whole_model(finished, tmp_path):
    from baa.assembly.modules import joint_module
    from baa.checkpoints.load import load_model
    from baa.config.load import load
    from baa.evaluation.checkpoint import evaluate
    from baa.training.run import run

    more = ["stages=[joint]", f"joint.start={finished[0] / 'tiny' / 'estimator' / 'best.ckpt'}", "joint.fit.epochs=1"]
    more += ["crops.box_method=moments", "joint.fit.ema=0.9"]
    config = load([], settings(tmp_path, *more))
    metrics = run(config)
    trained = load_model(tmp_path / "tiny" / "joint" / "best.ckpt")
    evaluated = evaluate(trained, [], split="test", out=tmp_path / "evaluated")

    assert evaluated["joint"]["test/mae"] == pytest.approx(metrics["joint"]["test/mae"], abs=1e-4)
    assert evaluated["joint"]["test/carpal_marked"] == metrics["joint"]["test/cases"]
    further = joint_module(config, trained, "joint.start").model.state_dict()
    expected = {name: tensor for name, tensor in trained.model.state_dict().items() if not name.startswith("input_check")}
    assert further.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in further.items())
