"""The schema of a run: every setting, its type, its default, and what it means.

The defaults are the paper's (Li et al. 2023) where the paper speaks, but for flips and shifts among the augmentations, mirror
images averaged, and boxes found live; `conf/paper.yaml` is without these.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
"""`auto` is the faster of fp32 and bf16, measured as the work begins."""

Head = Literal["regression", "distribution"]
"""One number, or the mean of a distribution over bins of age."""


@dataclass
class Table:
    """`data.source=table`: the columns of a CSV, Parquet or Excel file."""

    file: str | None = None
    image: str = "image"
    id: str | None = None  # null: the image's stem
    months: str | None = "age"
    sex: str | None = "sex"
    split: str | None = None  # train, val or test; to keep all films of a child in one
    age_unit: Literal["months", "years", "days"] = "months"


@dataclass
class Phantom:
    """`data.source=phantom`: synthetic hands."""

    count: int = 600
    seed: int = 0


@dataclass
class Split:
    """Who is trained on. `auto`: the source's splits where it has any, else a hash of the id."""

    by: Literal["auto", "source", "hash"] = "auto"
    seed: int = 0
    val: float = 0.1  # also of those to train on, where the source's splits leave nobody to choose by
    test: float = 0.1
    test_ids: str | None = None  # a CSV whose ids are in the test split whatever the rest says


@dataclass
class Augment:
    """Drawn anew for each training image: shares of the side, factors up to 1 +- x, degrees to either side."""

    degrees: float = 15.0
    scale: float = 0.1
    shift: float = 0.05
    contrast: float = 0.2
    brightness: float = 0.1
    flip: float = 0.5


@dataclass
class Data:
    """Where the radiographs come from and how they are kept."""

    source: Literal["rsna", "table", "phantom"] = "rsna"
    root: str | None = None  # the folder of the radiographs
    table: Table = field(default_factory=Table)
    phantom: Phantom = field(default_factory=Phantom)
    split: Split = field(default_factory=Split)
    source_px: int = 640  # side of the square source that crops are cut from
    cache: str = "runs/cache"
    on_bad: Literal["stop", "skip"] = "stop"
    workers: int = 2  # processes that decode, and that load
    balance: float = 0.0  # of training: 0, each case once an epoch; 1, each year of age as often as any other
    hide_sex: float = 0.0  # of training: probability that a case's sex is not told, so that an answer without it is learnt
    limit: int | None = None  # of cases in each split, for a quick look
    roi: str | None = None  # true boxes, to measure the locator by: id, region, xmin, ymin, xmax, ymax
    capitate: str | None = None  # true carpal centres: id, x, y
    augment: Augment = field(default_factory=Augment)


@dataclass
class Optimisation:
    """How one stage is trained."""

    epochs: int = 30
    batch_size: int = 16  # of each process
    accumulate: int = 1  # batches whose gradients make one step
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 3e-4
    weight_decay: float = 0.0
    schedule: Literal["constant", "onecycle"] = "constant"
    loss: Literal["mse", "l1", "smooth_l1"] = "mse"
    clip: float | None = None  # largest norm of the gradient
    ema: float | None = None  # judge and keep weights averaged with this decay a step: 0.99 is about the last 100 steps
    warmup: float | None = None  # share of the fit in which the rate rises; null: 0.3 of one cycle, none of a constant rate
    grow_from: float = 1.0  # share of the sides of views and crops that the first epoch sees; it grows to 1 in the last
    epoch_steps: int | None = None  # end each epoch after so many batches, for a trial


@dataclass
class Backbone:
    """A timm network. Weights: `imagenet`, `none`, a file, or (estimator streams) `locator`: those that it has learnt."""

    name: str = "inception_v3"
    weights: str = "imagenet"
    conv_pool: bool = False  # the paper's convolution and max pool after it (estimator streams only)


@dataclass
class Locator:
    """Stage 1: looks at the whole radiograph."""

    backbone: Backbone = field(default_factory=Backbone)
    px: int = 300
    attention: Literal["cbam", "cbam_norm", "none"] = "cbam"  # cbam_norm: its convolution batch-normalised
    head: Head = "regression"
    dropout: float = 0.0
    erase: float = 0.0  # probability of a black rectangle on a training radiograph, as the second look will see one
    checkpoint: str | None = None  # a trained locator to take instead of training one: pretrained, a checkpoint or a bundle
    fit: Optimisation = field(default_factory=Optimisation)


@dataclass
class Crops:
    """Between the stages: heat map to box to crop. Pairs are (carpal, hand)."""

    px: list[int] = field(default_factory=lambda: [300, 300])  # sides of the crops
    boxes: Literal["live", "remembered"] = "live"  # remembered: found once per radiograph, carried along with the augmentation
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # of a frozen locator's looks; boxes are fp32 all the same
    # Evidence for an older hand (relu), for either (absolute), for the side of the mean age that the hand is on (deviation), or
    # for the likeliest bin of a distribution (class).
    reading: Literal["relu", "absolute", "deviation", "class"] = "relu"
    rule: Literal["peak", "moments"] = "peak"  # about the hottest cells, or by mean and spread of the heat: learns in `joint`
    threshold: float = 0.5  # peak: share of the maximum that is hot
    margin: float = 0.03  # peak: added on each side, share of the image
    sharpness: float = 2.0  # moments: power of the heat map
    extents: list[float] = field(default_factory=lambda: [1.5, 2.0])  # moments: half sides in standard deviations
    centres: list[list[float]] = field(default_factory=lambda: [[0.5, 0.69], [0.5, 0.4]])  # where expected, (x, y)
    centres_from: Literal["image", "look"] = "image"  # they count from its corner, or from the middle of the first look
    spreads: list[float] = field(default_factory=lambda: [0.0, 0.0])  # one standard deviation; 0: expect nothing
    floor: float = 0.0  # share of the heat map's maximum that counts as seen everywhere, where a place is expected
    smallest: list[float] = field(default_factory=lambda: [0.2, 0.4])  # sides, shares of the image
    largest: list[float] = field(default_factory=lambda: [0.4, 0.8])
    typical: list[float] = field(default_factory=lambda: [0.3, 0.6])


@dataclass
class StreamWeights:
    """Factors of the streams where they are joined."""

    carpal: float = 1.0
    hand: float = 1.0
    whole: float = 1.0


@dataclass
class Fusion:
    """Exchange between the streams, their weights, and the sex gates (eq. 3)."""

    width: int = 512  # features that each stream is projected to
    mode: Literal["whole", "channel", "none"] = "whole"  # exchange all features, the channels that have emptied, or nothing
    exchange: float = 1.0  # whole: 0 is concatenation, 1 the paper's exchange
    exchange_learnt: bool = False
    sparsity: float = 1e-3  # channel: weight of the penalty that empties channels
    weights: StreamWeights = field(default_factory=StreamWeights)
    weights_learnt: bool = False
    sex_at: list[str] = field(default_factory=lambda: ["fused"])  # any of projected, fused, joined; []: no sex at all
    alpha_image: float = 1.0
    alpha_sex: float = 1.0
    alpha_learnt: bool = True


@dataclass
class Estimator:
    """Stage 2: reads the crops. Streams are any of `carpal`, `hand` (the crops) and `whole` (the radiograph)."""

    streams: list[str] = field(default_factory=lambda: ["carpal", "hand"])
    carpal: Backbone = field(default_factory=lambda: Backbone("legacy_xception", conv_pool=True))
    hand: Backbone = field(default_factory=lambda: Backbone("resnet50"))
    whole: Backbone = field(default_factory=lambda: Backbone("resnet50"))
    whole_px: int = 300
    fusion: Fusion = field(default_factory=Fusion)
    head: Head = "regression"
    hidden: int = 0  # features of a layer between what the streams give and the age; 0: none
    dropout: float = 0.0
    auxiliary: float = 0.0  # weight of the loss of each stream judged alone, so that none rests on another
    erase: float = 0.0  # probability of a black rectangle on a training radiograph, so that no single bone decides
    flip_average: bool = True  # average the ages of a radiograph and of its mirror image when evaluating
    fit: Optimisation = field(default_factory=Optimisation)


@dataclass
class Joint:
    """Stage 3: both networks together, from the estimator's checkpoint, which carries its locator."""

    start: str | None = None  # an estimator's checkpoint; null: this run's
    locator_lr: float = 1e-5  # fit.lr is the estimator's
    locator_weight: float = 0.1  # of the locator's own loss, beside the estimator's
    channel_weights: Literal["constant", "differentiated"] = "constant"  # Grad-CAM's, to the estimator's loss
    frozen_statistics: bool = True  # the estimator's batch norms keep the statistics they come with
    locator_frozen: int = 0  # groups of layers of its backbone that do not learn: 1 the stem, 2 the first stage too, ...
    estimator_frozen: int = 0  # the same of each of its backbones
    erase: float = 0.0  # probability of a black rectangle on a training radiograph
    fit: Optimisation = field(default_factory=lambda: Optimisation(epochs=6, lr=3e-5, schedule="onecycle"))


@dataclass
class Trainer:
    """Where it runs, in Lightning's words."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: str = "auto"  # of each node: auto, or how many
    num_nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"  # no FSDP: these networks fit any GPU, and Grad-CAM needs their heads whole
    timeout: float = 10.0  # minutes that a process waits for the others before it ends with an error
    precision: Precision = "auto"
    sync_batchnorm: bool = False  # statistics of the cases of all GPUs, not of each one's own
    recompute: bool = False  # gradient checkpointing of the backbones: less memory, a third more time, batch norms seen twice
    compile: bool = False  # torch.compile; where that fails, say why and go on without
    deterministic: bool = False  # the same losses to the last bit on the same machine, slower on a GPU
    progress: bool = True
    profile: bool = False  # trace a few steps of each stage, and say where they went


@dataclass
class Wandb:
    """Weights & Biases; falls back to offline where there is no key or no network."""

    enabled: bool = False
    project: str = "baa"
    entity: str | None = None
    figures: bool = False  # figures show radiographs: sending them is an export of patient data


@dataclass
class Config:
    """A run."""

    name: str = ""  # the config file's
    runs: str = "runs"
    seed: int = 0
    stages: list[str] = field(default_factory=lambda: ["locator", "estimator"])
    weights: str | None = None  # whose networks to start from, with their settings: pretrained, or runs/NAME/STAGE/bundle
    data: Data = field(default_factory=Data)
    locator: Locator = field(default_factory=Locator)
    crops: Crops = field(default_factory=Crops)
    estimator: Estimator = field(default_factory=Estimator)
    joint: Joint = field(default_factory=Joint)
    trainer: Trainer = field(default_factory=Trainer)
    wandb: Wandb = field(default_factory=Wandb)

    @property
    def folder(self) -> Path:
        """Where the run's output goes."""
        return Path(self.runs) / self.name
