"""The releases that a config may name, and the functions that load them."""

from fexpr.data.releases import affectnet, casme2, fer2013, megc2019, ravdess, ravdess_aus, samm

LOADERS = {
    "samm": samm.load, "casme2": casme2.load, "megc2019": megc2019.load, "fer2013": fer2013.load, "ravdess": ravdess.load,
    "affectnet": affectnet.load, "ravdess_aus": ravdess_aus.load,
}
