"""Two hundred things that can be wrong on a command line, each of which names its option.

Most are refused where the line is parsed, the others where task and data are built.
"""

import shlex
from collections.abc import Callable

import pytest

Refuse = Callable[..., str]

#: What is given beside the small recipe, as one writes it in a shell, and the sentence; up to a
#: space where the rest is Lightning's own, or a list that grows.
LINES = {
    "--config=--": "option --config is '--'; give a value",
    "--model.net.norm=--": "option --model.net.norm is '--'; give a value",
    "--trainer.max_epochs 1e3": (
        "option trainer.max_epochs is 1000.0; give a whole number or null"
    ),
    "--trainer.max_epochs [1]": "option trainer.max_epochs is [1]; give a whole number or null",
    "--trainer.max_epochs true": "option trainer.max_epochs is true; give a whole number",
    "--trainer.max_epochs ''": "option trainer.max_epochs is ''; give a whole number or null",
    "--trainer.max_steps -2": "option trainer.max_steps is -2; give -1 or more (-1 sets no limit)",
    "--trainer.max_steps ten": "option trainer.max_steps is 'ten'; give a whole number",
    "--trainer.min_epochs -1": "option trainer.min_epochs is -1; give 0 or more",
    "--trainer.min_steps -1": "option trainer.min_steps is -1; give 0 or more",
    "--trainer.max_time soon": (
        "option trainer.max_time is 'soon'; give DD:HH:MM:SS, or a mapping such as {hours: 2}"
    ),
    "--trainer.max_time '{parsecs: 3}'": (
        "option trainer.max_time is {'parsecs': 3}; give DD:HH:MM:SS, or a mapping such as "
        "{hours: 2}"
    ),
    "--trainer.limit_val_batches -0.5": "option trainer.limit_val_batches is -0.5; give 0 or more",
    "--trainer.limit_test_batches half": (
        "option trainer.limit_test_batches is 'half'; give a whole number, a number or null"
    ),
    "--trainer.overfit_batches -2": "option trainer.overfit_batches is -2; give 0 or more",
    "--trainer.check_val_every_n_epoch 0": (
        "option trainer.check_val_every_n_epoch is 0; give 1 or more"
    ),
    "--trainer.check_val_every_n_epoch -1": (
        "option trainer.check_val_every_n_epoch is -1; give 1 or more"
    ),
    "--trainer.num_sanity_val_steps -3": (
        "option trainer.num_sanity_val_steps is -3; give -1 or more (-1 sets no limit)"
    ),
    "--trainer.log_every_n_steps -1": "option trainer.log_every_n_steps is -1; give 1 or more",
    "--trainer.log_every_n_steps often": (
        "option trainer.log_every_n_steps is 'often'; give a whole number or null"
    ),
    "--trainer.accumulate_grad_batches 1.5": (
        "option trainer.accumulate_grad_batches is 1.5; give a whole number"
    ),
    "--trainer.accumulate_grad_batches '{0: 2}'": (
        "option trainer.accumulate_grad_batches is {0: 2}; give a whole number"
    ),
    "--trainer.gradient_clip_val -0.1": "option trainer.gradient_clip_val is -0.1; give 0 or more",
    "--trainer.gradient_clip_val much": (
        "option trainer.gradient_clip_val is 'much'; give a whole number, a number or null"
    ),
    "--trainer.gradient_clip_algorithm mean": "option trainer.gradient_clip_algorithm is 'mean': ",
    "--trainer.deterministic always": (
        "option trainer.deterministic is 'always'; give true, false, warn or null"
    ),
    "--trainer.benchmark 7": "option trainer.benchmark is 7; give true, false or null",
    "--trainer.precision 24": (
        "option trainer.precision is 24; give auto, 32-true, bf16-mixed, 16-mixed, 64-true, "
        "bf16-true, 16-true, transformer-engine, transformer-engine-float16, 32, bf16, 16, 64 "
        "or null"
    ),
    "--trainer.precision half": (
        "option trainer.precision is 'half'; give auto, 32-true, bf16-mixed, 16-mixed, "
        "64-true, bf16-true, 16-true, transformer-engine, transformer-engine-float16, 32, "
        "bf16, 16, 64 or null"
    ),
    "--trainer.precision [16]": (
        "option trainer.precision is [16]; give auto, 32-true, bf16-mixed, 16-mixed, 64-true, "
        "bf16-true, 16-true, transformer-engine, transformer-engine-float16, 32, bf16, 16, 64 "
        "or null (did you mean '16'?)"
    ),
    "--trainer.devices -2": "option trainer.devices is '-2'; give auto or a number",
    "--trainer.devices 1.5": "option trainer.devices is '1.5'; give auto or a number",
    "--trainer.devices [0,0]": "option trainer.devices is [0, 0]; give auto or a number",
    "--trainer.devices ''": "option trainer.devices is ''; give auto or a number",
    "--trainer.devices null": "option trainer.devices is 'null'; give auto or a number",
    "--trainer.num_nodes 0": "option trainer.num_nodes is 0; give 1 or more",
    "--trainer.num_nodes two": "option trainer.num_nodes is 'two'; give a whole number",
    "--trainer.strategy fsdp": (
        "option trainer.strategy is 'fsdp'; give ddp, as each process needs the whole net"
    ),
    "--trainer.strategy deepspeed_stage_3": (
        "option trainer.strategy is 'deepspeed_stage_3'; give ddp, as each process needs the "
        "whole net"
    ),
    "--trainer.strategy ddp_notebook": (
        "option trainer.strategy is 'ddp_notebook'; give ddp, whose processes start by themselves"
    ),
    "--trainer.strategy 3": "option trainer.strategy is '3'; give auto for the one that fits",
    "--trainer.strategy []": "option trainer.strategy is '[]'; give auto for the one that fits",
    "--trainer.enable_progress_bar maybe": (
        "option trainer.enable_progress_bar is 'maybe'; give true, false or null"
    ),
    "--trainer.enable_checkpointing 3": (
        "option trainer.enable_checkpointing is 3; give true, false or null"
    ),
    "--trainer.inference_mode 2": "option trainer.inference_mode is 2; give true or false",
    "--trainer.detect_anomaly perhaps": (
        "option trainer.detect_anomaly is 'perhaps'; give true or false"
    ),
    "--trainer.sync_batchnorm yess": "option trainer.sync_batchnorm is 'yess'; give true or false",
    "--trainer.reload_dataloaders_every_n_epochs x": (
        "option trainer.reload_dataloaders_every_n_epochs is 'x'; give a whole number"
    ),
    "--trainer.fast_dev_run perhaps": (
        "option trainer.fast_dev_run is 'perhaps'; give a whole number, true or false"
    ),
    "--trainer.default_root_dir null": (
        "option trainer.default_root_dir is null; give a folder on this machine"
    ),
    "--trainer.logger nope": (
        "option trainer.logger: there is no class 'nope'; give the whole path, package.module.Class"
    ),
    "--trainer.logger 7": (
        "option trainer.logger: there is no class '7'; give the whole path, package.module.Class"
    ),
    "--trainer.callbacks 3": (
        "option trainer.callbacks: there is no class '3'; give the whole path, package.module.Class"
    ),
    "--trainer.callbacks Nope": (
        "option trainer.callbacks: there is no class 'Nope'; give the whole path, "
        "package.module.Class"
    ),
    "--trainer.callbacks+=": "option trainer.callbacks is ''; give a class",
    "--trainer.callbacks+=3": (
        "option trainer.callbacks: there is no class '3'; give the whole path, package.module.Class"
    ),
    "--trainer.callbacks+=Digits": (
        "option trainer.callbacks: there is no class 'Digits'; give the whole path, "
        "package.module.Class"
    ),
    "--trainer.callbacks+=EarlyStopping": (
        "option trainer.callbacks.monitor is missing; set it in a recipe or on the command line"
    ),
    (
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val/loss "
        "--trainer.callbacks.mode up"
    ): ("option trainer.callbacks.mode is 'up': "),
    "--trainer.callbacks+=Timer --trainer.callbacks.duration soon": (
        "option trainer.callbacks.duration is 'soon': "
    ),
    "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.save_top_k -5": (
        "option trainer.callbacks.save_top_k is -5: "
    ),
    "--trainer.callbacks+=LearningRateMonitor --trainer.callbacks.logging_interval hour": (
        "option trainer.callbacks.logging_interval is 'hour'; give step, epoch or null"
    ),
    "--trainer.callbacks+=GradientAccumulationScheduler": (
        "option trainer.callbacks.scheduling is missing; set it in a recipe or on the command line"
    ),
    "--trainer.plugins nope": (
        "option trainer.plugins: there is no class 'nope'; give the whole path, "
        "package.module.Class"
    ),
    "--trainer.plugins 3": (
        "option trainer.plugins: there is no class '3'; give the whole path, package.module.Class"
    ),
    "--trainer.use_distributed_sampler 3": (
        "option trainer.use_distributed_sampler is 3; give true or false"
    ),
    "--checkpoint.mode up": "option checkpoint.mode is 'up'; give min, max or null",
    "--checkpoint.mode 3": "option checkpoint.mode is 3; give min, max or null",
    "--checkpoint.every_n_train_steps 1.5": (
        "option checkpoint.every_n_train_steps is 1.5; give a whole number"
    ),
    "--checkpoint.every_n_train_steps x": (
        "option checkpoint.every_n_train_steps is 'x'; give a whole number"
    ),
    "--checkpoint.stop_seconds soon": "option checkpoint.stop_seconds is 'soon'; give a number",
    "--checkpoint 3": "option checkpoint is 3; set its options one by one, --checkpoint.NAME VALUE",
    "--checkpoint.nope 3": "option --checkpoint.nope is not known; Checkpoints takes ",
    "--seed_everything 1.5": "option seed_everything is 1.5; give a whole number",
    "--seed_everything x": "option seed_everything is 'x'; give a whole number",
    "--seed_everything 4294967296": (
        "option seed_everything is 4294967296; give a number from 0 to 4294967295"
    ),
    "--seed_everything null": "option seed_everything is null; give a whole number, true or false",
    "--wandb 3": "option wandb is 3; give auto, online, offline or off",
    "--wandb ''": "option wandb is ''; give auto, online, offline or off",
    "--wandb_checkpoint 3": "option wandb_checkpoint is 3; give true or false",
    "--wandb_checkpoint maybe": "option wandb_checkpoint is 'maybe'; give true or false",
    "--ckpt_path ''": "option --ckpt_path needs a value",
    "--ckpt_path .": "option ckpt_path is '.'; it is a folder: give a file in it, best.ckpt say",
    "--ckpt_path r.yaml": (
        "option ckpt_path is 'r.yaml'; it is damaged, or is no checkpoint: give a file that "
        "`fit` saved"
    ),
    "--ckpt_path lst": (
        "option ckpt_path is 'lst'; give a file that is there: runs keep theirs in RUN/checkpoints"
    ),
    "--trust ''": "option --trust needs a value",
    "--trust 'os.path;x'": "option --trust is 'os.path;x'; give the name of a package",
    "--trust -": "option --trust is '-'; give the name of a package",
    "--config ''": "option --config needs a value",
    "--config .": "option config is '.'; it is a folder: give a YAML file in it",
    "--config [1]": (
        "option config is '[1]'; give a file or the name of a packaged recipe; `zoo list "
        "recipes` shows what there is"
    ),
    "--model null": "option model is missing; set it in a recipe or on the command line",
    "--model 3": "option model: there is no class '3'; give the whole path, package.module.Class",
    "--model []": "option model is []; give a task (see `zoo list tasks`) or null",
    "--model '{class_path: 3}'": (
        "option model is {'class_path': 3}; give a task (see `zoo list tasks`) or null"
    ),
    "--model zoo.ImageClassifier.net": (
        "option model: there is no class 'zoo.ImageClassifier.net'; give the whole path, "
        "package.module.Class"
    ),
    "--model.lr [0.1]": "option model.lr is [0.1]; give a number or null",
    "--model.lr '{a: 1}'": "option model.lr is {'a': 1}; give a number or null",
    "--model.lr true": "option model.lr is true; give a number",
    "--model.lr ''": "option model.lr is ''; give a number or null",
    "--model.schedule 3": (
        "option model.schedule is 3; give constant, cosine, linear, one_cycle or step"
    ),
    "--model.warmup_steps 1.5": "option model.warmup_steps is 1.5; give a whole number",
    "--model.warmup_steps many": "option model.warmup_steps is 'many'; give a whole number",
    "--model.milestones [a]": "option model.milestones is 'a'; give a number",
    "--model.milestones [0.5,2] --model.schedule step": (
        "option model.milestones is [0.5, 2.0]; give fractions of the run, between 0 and 1"
    ),
    "--model.milestones [0.5]": (
        "option model.milestones is [0.5]; leave it out, as it is for step and has no effect "
        "on cosine"
    ),
    "--model.gamma 0.5": (
        "option model.gamma is 0.5; leave it out, as it is for step and has no effect on cosine"
    ),
    "--model.gamma -1 --model.schedule step": "option model.gamma is -1.0; give 0 or more",
    "--model.ema_decay 1": (
        "option model.ema_decay is 1.0; give a number between 0 and 1, 0.999 say"
    ),
    "--model.ema_decay -0.5": (
        "option model.ema_decay is -0.5; give a number between 0 and 1, 0.999 say"
    ),
    "--model.ema_decay x": "option model.ema_decay is 'x'; give a number or null",
    "--model.adaptive_clip 0": "option model.adaptive_clip is 0.0; give a number above 0",
    "--model.freeze head": "option model.freeze is 'head'; give none or backbone",
    "--model.compile maybe": "option model.compile is 'maybe'; give true or false",
    "--model.compile_mode fastest": (
        "option model.compile_mode is 'fastest'; give default, reduce-overhead, max-autotune "
        "or max-autotune-no-cudagraphs"
    ),
    "--model.label_smoothing x": "option model.label_smoothing is 'x'; give a number",
    "--model.class_weights auto2": (
        "option model.class_weights is 'auto2'; give a list of numbers ([1, 2.5]), auto or "
        "null (did you mean 'auto'?)"
    ),
    "--model.class_weights [1]": (
        "option model.class_weights is [1.0]; give 10 numbers, one for each class"
    ),
    "--model.class_weights [-1,1,1,1,1,1,1,1,1,1]": (
        "option model.class_weights is [-1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]; "
        "give one number of 0 or more for each class"
    ),
    "--model.class_weights '{a: 1}'": (
        "option model.class_weights is {'a': 1}; give a list of numbers ([1, 2.5]), auto or null"
    ),
    "--model.mixup_alpha -1": "option model.mixup_alpha is -1.0; give 0 or more",
    "--model.mixup_alpha x": "option model.mixup_alpha is 'x'; give a number",
    "--model.tta flips": (
        "option model.tta is 'flips'; give none, flip or flip_shift (did you mean 'flip'?)"
    ),
    "--model.channels_last 2": "option model.channels_last is 2; give true or false",
    "--model.loss focal --model.focal_gamma -1": (
        "option model.focal_gamma is -1.0; give a number of 0 or more"
    ),
    "--model.loss 3": (
        "option model.loss is 3; give cross_entropy, binary_cross_entropy, focal, "
        "generalized_cross_entropy or null"
    ),
    "--model.gce_q 0.5": (
        "option model.gce_q is 0.5; leave it out, as it is for generalized_cross_entropy and "
        "has no effect on cross_entropy"
    ),
    "--model.loss generalized_cross_entropy --model.gce_q 2": (
        "option model.gce_q is 2.0; give a number above 0, up to 1"
    ),
    "--model.aux_weight -1": "option model.aux_weight is -1.0; give 0 or more",
    "--model.aux_weight x": "option model.aux_weight is 'x'; give a number",
    "--model.net.dropout -0.1": "option model.net.dropout is -0.1; give a number from 0 to below 1",
    "--model.net.dropout x": "option model.net.dropout is 'x'; give a number or null",
    "--model.net.norm 3": (
        "option model.net.norm is 3; give auto, batch, layer, instance, group, rms, frn or none"
    ),
    "--model.net.num_groups x": "option model.net.num_groups is 'x'; give a whole number or auto",
    "--model.net.conv triple": "option model.net.conv is 'triple'; give plain, ws or scaled_ws",
    "--model.net.activation 7": (
        "option model.net.activation is 7; give relu, leaky_relu, gelu, silu, mish, tanh, "
        "sigmoid, softplus, elu or hardswish"
    ),
    "--model.net.stem big": "option model.net.stem is 'big'; give auto, small or large",
    "--model.net.layout 3": "option model.net.layout is 3; give paper, torchvision or cifar",
    "--model.net.aux_heads maybe": (
        "option model.net.aux_heads is 'maybe'; give true, false or null"
    ),
    "--model.net.weights IMAGENET1K_V9": (
        "option model.net.weights is 'IMAGENET1K_V9'; give one of IMAGENET1K_V1, DEFAULT (did "
        "you mean 'IMAGENET1K_V1'?)"
    ),
    "--model.net null": "option model.net is missing; set it in a recipe or on the command line",
    "--model.net 3": (
        "option model.net: there is no class '3'; give the whole path, package.module.Class"
    ),
    "--model.net []": "option model.net is []; give a net (see `zoo list nets`)",
    "--model.net '{class_path: GoogLeNet, layout: cifar}'": (
        "option model.net has arguments beside class_path; they belong under init_args"
    ),
    "--model.net ResNet --model.net.depth 21": (
        "option model.net.depth is 21; give 20, 32, 44, 56, 110, 18, 34, 50 or 101"
    ),
    "--model.net ResNet --model.net.depth x": (
        "option model.net.depth is 'x'; give 20, 32, 44, 56, 110, 18, 34, 50 or 101"
    ),
    "--model.net ResNet --model.net.depth 0": (
        "option model.net.depth is 0; give 20, 32, 44, 56, 110, 18, 34, 50 or 101 (did you "
        "mean '50'?)"
    ),
    "--model.net torchvision.models.resnet18 --model.net.num_classes 5": (
        "option model.net.num_classes is 5; leave it out, as the data says what it is"
    ),
    "--model.net torchvision.models.get_model": (
        "option model.net names 'torchvision.models.get_model', which is no class; of "
        "functions a recipe may name timm.create_model and torchvision's builders of models "
        "alone"
    ),
    "--model.net timm.create_model": (
        "option model.net.model_name is missing; set it in a recipe or on the command line"
    ),
    "--data null": "option data is missing; set it in a recipe or on the command line",
    "--data 3": "option data: there is no class '3'; give the whole path, package.module.Class",
    "--data []": "option data is []; give a data set (see `zoo list data`) or null",
    "--data datamodules.nope": (
        "option data: there is no class 'datamodules.nope'; give the whole path, "
        "package.module.Class"
    ),
    "--data.batch_size null": "option data.batch_size is null; give a whole number",
    "--data.batch_size 1e9": "option data.batch_size is 1000000000.0; give a whole number",
    "--data.batch_size [3]": "option data.batch_size is [3]; give a whole number",
    "--data.num_workers x": "option data.num_workers is 'x'; give a whole number",
    "--data.val_fraction x": "option data.val_fraction is 'x'; give a number",
    "--data.seed x": "option data.seed is 'x'; give a whole number or null",
    "--data.split_seed x": "option data.split_seed is 'x'; give a whole number",
    "--data.contrast x": "option data.contrast is 'x'; give a number",
    "--data.crop_padding x": "option data.crop_padding is 'x'; give a whole number",
    "--data.horizontal_flip 3": "option data.horizontal_flip is 3; give true, false or alternate",
    "--data.mean 3": "option data.mean is 3; give a list of numbers ([1, 2.5]) or null",
    "--data.mean [0.5]": (
        "option data.mean is [0.5]; give both or neither of it and std, which is null"
    ),
    "--data.std [0] --data.mean [0.5]": (
        "option data.std is [0.0]; give numbers above 0, one for each channel"
    ),
    "--data.std [1,1] --data.mean [0,0]": (
        "option data.mean is [0.0, 0.0]; give one number for each of 1 channels"
    ),
    "--data.resident 3": "option data.resident is 3; give true or false",
    "--data.balanced 3": "option data.balanced is 3; give true or false",
    "--data.partition 3": "option data.partition is 3; give a Share or null",
    "--data.num_classes 10": "option --data.num_classes is not known; Digits takes ",
    "--data CIFAR10 --data.val_size x": "option data.val_size is 'x'; give a whole number",
    "--data ImageNpz --data.path nope.npz": (
        "option data.path is 'nope.npz'; give an npz file that exists"
    ),
    "--data ImageFolder --data.root nope": "option data.root is 'nope'; give a folder that exists",
    "--data ImageFolder --data.root nope --data.image_size 0": (
        "option data.root is 'nope'; give a folder that exists"
    ),
    "--data TextClassification --data.path nope.csv": (
        "option data.path is 'nope.csv'; give a file or folder that exists, or a hub data set"
    ),
    "--data CSVTable --data.path nope.csv --data.target y": (
        "option data.path is 'nope.csv'; give a csv file: this does not exist"
    ),
    "--data MedMNIST --data.name chestmnist --data.size 30": (
        "option data.size is 30; give 28, 64, 128 or 224"
    ),
    "--print_config nope": "option names start with two dashes, unlike 'nope'",
    "--print_config=nope": "option --print_config is 'nope'; give it without a value",
    "-x 3": "option names start with two dashes, unlike '-x'",
    "- 3": "option names start with two dashes, unlike '-'",
    "-- 3": "option names start with two dashes, unlike '--'",
    "--=3": "option names start with two dashes, unlike '--=3'",
    "--model.=3": "option --model. is not known; ImageClassifier takes ",
    "--.lr 3": "option --.lr is not known; did you mean --model.lr?",
    "--model..lr 3": "option --model..lr is not known; did you mean --model.lr?",
    "--model.net.net.norm batch": (
        "option --model.net.net.norm is not known; did you mean --model.net.norm?"
    ),
    "--trainer.callbacks.monitor x": (
        "option trainer.callbacks is missing; give a callback's class before its options"
    ),
    "--trainer.logger.name x": "option trainer.logger is missing; give the class of the logger",
    "--trainer.profiler.filename x": (
        "option trainer.profiler is missing; give the class of the profiler"
    ),
    "--model.lr 0.1 0.2": "option names start with two dashes, unlike '0.2'",
    "--model.lr=": "option model.lr is ''; give a number or null",
    "--data=": "option data is ''; give a class",
    "--data.batch_size=": "option data.batch_size is ''; give a whole number",
    "--modle.lr 0.1": "option --modle.lr is not known; did you mean --model.lr?",
    "--MODEL.lr 0.1": "option --MODEL.lr is not known; did you mean --model.lr?",
    "--model.LR 0.1": "option --model.LR is not known; did you mean --model.lr?",
    "--inputs": "option --inputs needs at least one file or folder",
    "--model.warmup_steps null": "option model.warmup_steps is null; give a whole number",
    "--model.gamma null": "option model.gamma is null; give a number",
    "--model.net.norm group --model.net.num_groups 0": (
        "option model.net.num_groups is 0; it does not divide 64 channels; choose a divisor or "
        "'auto'"
    ),
    "--data.split_seed null": "option data.split_seed is null; give a whole number",
    "--data.horizontal_flip null": (
        "option data.horizontal_flip is null; give true, false or alternate"
    ),
    "--data.val_fraction null": "option data.val_fraction is null; give a number",
    "--model.label_smoothing null": "option model.label_smoothing is null; give a number",
    "--model.optimizer null": "option model.optimizer is null; give ",
    "--trainer.max_steps null": "option trainer.max_steps is null; give a whole number",
    "--trainer.num_nodes null": "option trainer.num_nodes is null; give a whole number",
    "--trainer.strategy null": "option trainer.strategy is 'null'; give auto for the one that fits",
    "--checkpoint.stop_seconds null": "option checkpoint.stop_seconds is null; give a number",
    "--checkpoint.every_n_train_steps null": (
        "option checkpoint.every_n_train_steps is null; give a whole number"
    ),
    "--model.net.layout null": "option model.net.layout is null; give paper, torchvision or cifar",
    "--model.net ResNet --model.net.depth null": (
        "option model.net.depth is null; give a whole number"
    ),
    "--model.backbone_lr_factor null": "option model.backbone_lr_factor is null; give a number",
    "--data.crop_padding null": "option data.crop_padding is null; give a whole number",
    "--data.brightness null": "option data.brightness is null; give a number",
    "--wandb null": (
        "option wandb is null; give auto, online, offline or off (did you mean 'online'?)"
    ),
    "--trainer.callbacks+=Timer --trainer.callbacks.duration '{parsecs: 1}'": (
        "option trainer.callbacks.duration is {'parsecs': 1}: "
    ),
    "--trainer.callbacks+=LambdaCallback --trainer.callbacks.setup torch.nn.Identity": (
        "option trainer.callbacks.setup is 'torch.nn.Identity'; leave it out, as it takes a "
        "function, which a recipe cannot name"
    ),
    "--trainer.callbacks+=LambdaCallback --trainer.callbacks.on_fit_start torch.nn.Identity": (
        "option trainer.callbacks.on_fit_start is 'torch.nn.Identity'; leave it out, as it "
        "takes a function, which a recipe cannot name"
    ),
    ("--trainer.callbacks+=BackboneFinetuning --trainer.callbacks.lambda_func torch.nn.Identity"): (
        "option trainer.callbacks.lambda_func is 'torch.nn.Identity'; leave it out, as it "
        "takes a function, which a recipe cannot name"
    ),
    "--trainer.strategy DDPStrategy --trainer.strategy.ddp_comm_hook torch.nn.Identity": (
        "option trainer.strategy.ddp_comm_hook is 'torch.nn.Identity'; leave it out, as it "
        "takes a function, which a recipe cannot name"
    ),
}


@pytest.mark.parametrize("flags", LINES)
def test_line_is_refused(flags: str, refuse: Refuse) -> None:
    sentence = refuse(["fit", "--config", "r.yaml", "--wandb", "off", *shlex.split(flags)])
    if LINES[flags].endswith(" "):
        assert sentence.startswith(LINES[flags])
    else:
        assert sentence == LINES[flags]
