from .catalogue import from_spec as from_spec
from .dense import mlp as mlp
from .plain import vgg as vgg
from .residual import resnet_cifar as resnet_cifar
from .transformer import vit as vit
from .wide import wide_resnet as wide_resnet

__all__ = ["from_spec", "mlp", "resnet_cifar", "vgg", "vit", "wide_resnet"]
