from .augmentation import FlipCrop as FlipCrop
from .cifar import cifar10 as cifar10
from .cifar import cifar100 as cifar100
from .data import Data as Data
from .generated import digits as digits
from .generated import random_labels as random_labels
from .loading import from_spec as from_spec
from .loading import load as load
from .pictures import image_folder as image_folder
from .vision import torchvision_dataset as torchvision_dataset

__all__ = [
    "Data",
    "FlipCrop",
    "cifar10",
    "cifar100",
    "digits",
    "from_spec",
    "image_folder",
    "load",
    "random_labels",
    "torchvision_dataset",
]
