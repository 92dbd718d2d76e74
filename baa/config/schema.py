"""The schema of a run. Each setting has its type, default, range and help in one place.

Defaults follow Li et al. 2023 where the paper is specific. Our additions to its augmentation are flips and shifts, and our
evaluation averages mirror images; `conf/paper.yaml` switches both off.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from baa.config.data_schema import DataConfig
from baa.config.setting import group, setting

STAGES = ("locator", "estimator", "joint")
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Head = Literal["regression", "distribution"]


@dataclass
class FitConfig:
    """Optimization of one stage."""

    epochs: int = setting(30, "number of epochs; a run with a constant learning rate may be continued with more", low=1)
    batch_size: int = setting(16, "cases per batch and process", low=2, most=65_536)
    accumulate_grad_batches: int = setting(1, "batches whose gradients make one optimizer step", low=1)
    optimizer: Literal["adam", "adamw"] = setting("adam", "optimizer")
    lr: float = setting(3e-4, "learning rate; the highest one of a one-cycle schedule", positive=True)
    weight_decay: float = setting(0.0, "weight decay", low=0)
    schedule: Literal["constant", "onecycle"] = setting("constant", "learning rate schedule")
    loss: Literal["mse", "l1", "smooth_l1"] = setting("mse", "loss of the standardized age")
    gradient_clip_val: float | None = setting(None, "largest norm of the gradient; null: no clipping", positive=True)
    ema: float | None = setting(None, "decay per step of averaged weights; null: no averaging", low=0, high=0.999999)
    warmup: float | None = setting(None, "share of steps with a rising rate; null: 0.3 of one cycle", low=0, high=1)
    progressive_resize_from: float = setting(1.0, "image side in the first epoch, a share; 1 in the last", low=0.25, high=1)


@dataclass
class BackboneConfig:
    """A timm network."""

    name: str = setting("inception_v3", "timm model name")
    weights: str = setting("imagenet", "imagenet, none, a file; streams also: locator, its trained backbone")


@dataclass
class StreamConfig(BackboneConfig):
    """The backbone of an estimator stream."""

    conv_pool: bool = setting(False, "add the paper's convolution and max pool after the backbone")


@dataclass
class LocatorConfig:
    """Stage 1: whole radiograph to age; its heat maps give the regions."""

    backbone: BackboneConfig = group(BackboneConfig, "its backbone")
    px: int = setting(300, "side of its view, pixels", low=32, most=4096)
    attention: Literal["cbam", "cbam_norm", "none"] = setting("cbam", "cbam_norm: CBAM with batch norm")
    head: Head = setting("regression", "one number, or the mean of a distribution over bins of age")
    auxiliary_stride: int | None = setting(
        None, "a second age head on the last layer of this stride; the age is the mean of both", low=1, most=1024
    )
    random_erasing_p: float = setting(0.0, "training: probability of a black rectangle", low=0, high=1)
    hide_and_seek: float = setting(0.0, "training: share of the 36 patches of an image that are hidden", low=0, high=0.9)
    checkpoint: str | None = setting(None, "a trained locator to use: pretrained, a checkpoint or a bundle")
    fit: FitConfig = group(FitConfig, "its optimization")


@dataclass
class RegionConfig:
    """A region: where it is expected and how its box becomes a crop. Lengths are shares of the image side."""

    px: int = setting(300, "side of the crop, pixels", low=32, most=4096)
    lowest_mode: bool = setting(False, "the region is the mode of the heat map nearest to the forearm, not the peak")
    flip_average: bool = setting(False, "average the heat maps of the image and its mirror image")
    prior_center: list[float] = setting(
        [0.5, 0.5], "center (x, y) of the spatial prior and of the fallback box, counted from crops.prior_origin"
    )
    prior_sigma: float = setting(0.0, "standard deviation of the spatial prior; 0: no prior", low=0)
    extent: float = setting(2.0, "box_method=moments: half side in standard deviations of the heat", positive=True)
    min_side: float = setting(0.2, "smallest side of the box", positive=True, high=1)
    max_side: float = setting(0.8, "largest side of the box", positive=True, high=1)
    fallback_side: float = setting(0.5, "side of the box that replaces a degenerate heat map's", positive=True, high=1)


@dataclass
class CropsConfig:
    """From heat map to box to crop. Each region is a record; they are found in this order, each hidden before the next."""

    carpal: RegionConfig = group(
        RegionConfig, "the first region", prior_center=[0.5, 0.69], extent=1.5, max_side=0.4, fallback_side=0.3
    )
    hand: RegionConfig = group(RegionConfig, "the second region", prior_center=[0.5, 0.4], min_side=0.4, fallback_side=0.6)
    boxes: Literal["live", "cached"] = setting("live", "find boxes in every batch, or once per radiograph")
    precision: Literal["auto", "32-true", "bf16-mixed"] = setting("auto", "of the frozen locator; auto: the trainer's")
    cam_mode: Literal["relu", "absolute", "deviation", "class"] = setting(
        "relu",
        "evidence in the heat map: for an older hand, of either sign, for its side of the mean age, or the likeliest age bin",
    )
    cam_method: Literal["grad_cam", "gradient_x_activation"] = setting(
        "grad_cam", "heat map: Grad-CAM of the last layer, or gradient times activation, cell by cell, of crops.cam_layers"
    )
    cam_layers: list[str] = setting(["8", "16"], "cam_method=gradient_x_activation: layers, each a stride or a name of timm's")
    cam_smoothing: float = setting(
        0.0, "standard deviation of a Gaussian filter of the heat map, share of its side", low=0, high=0.5
    )
    box_method: Literal["peak", "moments"] = setting("peak", "box of the hottest connected cells, or by mean and spread")
    threshold: float = setting(0.5, "share of the heat map's maximum from which a cell is hot and a mode counts", low=0, high=1)
    shift_radius: float = setting(
        0.15, "lowest_mode: radius of mean shift about the mode, share of the image", low=0.02, high=1
    )
    margin: float = setting(0.03, "box_method=peak: added on each side, share of the image", low=0, high=0.5)
    sharpness: float = setting(2.0, "box_method=moments, without lowest_mode: power of the heat map", low=0.01)
    prior_origin: Literal["image", "heat_map"] = setting("image", "from the image's corner or the first map's mean")
    prior_floor: float = setting(0.0, "added to the heat map before the prior, share of its maximum", low=0)

    def regions(self) -> dict[str, RegionConfig]:
        """The regions by name, in their order."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is RegionConfig}


REGIONS = tuple(CropsConfig().regions())
STREAMS = (*REGIONS, "whole")


@dataclass
class StreamWeightsConfig:
    """Factor of each stream before concatenation."""

    carpal: float = setting(1.0, "factor of the carpal stream")
    hand: float = setting(1.0, "factor of the hand stream")
    whole: float = setting(1.0, "factor of the whole-radiograph stream")


@dataclass
class FusionConfig:
    """Feature exchange between streams, stream weights, and sex (eq. 3)."""

    width: int = setting(512, "features that each stream is projected to", low=1, most=65_536)
    mode: Literal["whole", "channel", "none"] = setting("whole", "features, empty channels or nothing is exchanged")
    exchange: float = setting(1.0, "mode=whole: 0 is concatenation, 1 is the paper's exchange", low=0, high=1)
    exchange_learned: bool = setting(False, "train the exchange weight")
    sparsity: float = setting(1e-3, "mode=channel: weight of the penalty that empties channels", low=0)
    weights: StreamWeightsConfig = group(StreamWeightsConfig, "factor of each stream")
    weights_learned: bool = setting(False, "train the stream factors")
    sex_at: list[str] = setting(
        ["fused"],
        "where sex is added: each stream before (projected) or after (fused) the exchange, or to all (joined); []: nowhere",
        choices=("projected", "fused", "joined"),
    )
    alpha_image: float = setting(1.0, "weight of image features, alpha_D of eq. 3")
    alpha_sex: float = setting(1.0, "weight of sex features, alpha_G of eq. 3")
    alpha_learned: bool = setting(True, "train both alphas")


@dataclass
class EstimatorConfig:
    """Stage 2: crops and sex to age."""

    streams: list[str] = setting(["carpal", "hand"], "its inputs: crops, and whole, the radiograph", choices=STREAMS)
    carpal: StreamConfig = group(StreamConfig, "backbone of the carpal crop", name="legacy_xception", conv_pool=True)
    hand: StreamConfig = group(StreamConfig, "backbone of the hand crop", name="resnet50")
    whole: StreamConfig = group(StreamConfig, "backbone of the whole radiograph", name="resnet50")
    whole_px: int = setting(300, "side of the whole stream's view, pixels", low=32, most=4096)
    fusion: FusionConfig = group(FusionConfig, "how the streams and sex are joined")
    head: Head = setting("regression", "one number, or the mean of a distribution over bins of age")
    hidden: int = setting(0, "width of a hidden layer before the age; 0: none", low=0, most=65_536)
    dropout: float = setting(0.0, "share of features dropped before the age in training", low=0, high=1)
    auxiliary: float = setting(0.0, "weight of the loss of each stream's own age", low=0)
    random_erasing_p: float = setting(0.0, "training: probability of a black rectangle", low=0, high=1)
    flip_average: bool = setting(True, "evaluation: average the ages of a radiograph and its mirror image")
    fit: FitConfig = group(FitConfig, "its optimization")


@dataclass
class JointConfig:
    """Stage 3: locator and estimator fine-tuned together."""

    start: str | None = setting(None, "an estimator to start from: pretrained, a checkpoint or a bundle; null: this run's")
    locator_lr: float = setting(1e-5, "learning rate of the locator; joint.fit.lr is the estimator's", low=0)
    locator_weight: float = setting(0.1, "weight of the locator's own loss", low=0)
    channel_weights: Literal["constant", "differentiated"] = setting(
        "constant", "gradients that weight the heat map: constants of the loss, or differentiated too (second derivatives)"
    )
    frozen_statistics: bool = setting(True, "keep the estimator's batch norm statistics")
    locator_frozen: int = setting(
        0, "its first groups of layers that are not trained; 1: the stem, 2: and the first stage", low=0
    )
    estimator_frozen: int = setting(0, "the same for each backbone of the estimator", low=0)
    random_erasing_p: float = setting(0.0, "training: probability of a black rectangle", low=0, high=1)
    fit: FitConfig = group(FitConfig, "its optimization", epochs=6, lr=3e-5, schedule="onecycle")


@dataclass
class TrainerConfig:
    """Where and how it computes, in Lightning's words."""

    accelerator: Literal["auto", "cpu", "gpu"] = setting("auto", "device kind")
    devices: str = setting("auto", "processes per node: auto, or a number")
    num_nodes: int = setting(1, "nodes", low=1)
    timeout: float = setting(10.0, "minutes that a process waits for the others or for a batch before it ends", low=0.1)
    signal_every: int = setting(10, "steps after which processes ask each other whether one has a signal to stop", low=1)
    precision: Precision = setting("auto", "auto: 32-true on CPUs, bf16-mixed on CUDA GPUs that have it")
    fast_dev_run: bool = setting(False, "try all stages on two batches of each split for an epoch, and keep nothing")
    overfit_batches: int = setting(0, "train each epoch on the same first batches of this number; 0: on all", low=0)
    limit_train_batches: int | None = setting(None, "end each epoch after this many batches", low=1)
    limit_val_batches: int | None = setting(None, "validate after each epoch on this many batches", low=1)
    limit_test_batches: int | None = setting(None, "test on the cases of this many batches", low=1)
    sync_batchnorm: bool = setting(False, "share batch norm statistics between GPUs")
    gradient_checkpointing: bool = setting(False, "less memory, a third more time; batch norms process each batch twice")
    compile: bool = setting(False, "compile the networks with torch.compile")
    deterministic: bool = setting(False, "the same losses to the last bit on the same machine; slower on a GPU")
    progress: bool = setting(True, "show progress bars")
    profile: bool = setting(False, "write Lightning's PyTorch profile of each stage to STAGE/")


@dataclass
class WandbConfig:
    """Weights & Biases. Runs are kept offline without a key or a server."""

    enabled: bool = setting(False, "log to W&B")
    project: str = setting("baa", "W&B project")
    entity: str | None = setting(None, "W&B account or team; null: your default")
    detail: Literal["shared", "full"] = setting(
        "shared", "settings as in a shared bundle; or full: also console, folders, columns, host and command line"
    )
    figures: bool = setting(
        False, "send figures and the table of predictions too. They show radiographs and ids: this exports patient data"
    )
    artifacts: bool = setting(False, "keep the bundle of each stage as an artifact, with its model card")


@dataclass
class Config:
    """A run."""

    name: str = setting("", "name of the run and its folder; default: the config file's name")
    runs: str = setting("runs", "folder of all runs")
    seed: int = setting(0, "seed of everything that is drawn", low=0, high=2**32 - 1)
    stages: list[str] = setting(["locator", "estimator"], "stages to train, in this order", choices=STAGES)
    weights: str | None = setting(None, "a model to start from, with its settings: pretrained, or a bundle")
    data: DataConfig = group(DataConfig, "radiographs")
    locator: LocatorConfig = group(LocatorConfig, "stage 1: whole radiograph to age, and heat maps")
    crops: CropsConfig = group(CropsConfig, "heat map to box to crop")
    estimator: EstimatorConfig = group(EstimatorConfig, "stage 2: crops and sex to age")
    joint: JointConfig = group(JointConfig, "stage 3: both networks together")
    trainer: TrainerConfig = group(TrainerConfig, "where and how it computes")
    wandb: WandbConfig = group(WandbConfig, "Weights & Biases")

    @property
    def folder(self) -> Path:
        """Where the run's output goes."""
        return Path(self.runs) / self.name
