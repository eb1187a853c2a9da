"""Reads weights of other authors and frameworks from local files into the models here, and writes
them.

    from fexpr.models.weights import files, layouts
    weights = files.read("rcmalli_vggface_tf_notop_vgg16.h5")
    # everything fits, or one error lists what does not
    variables, report = layouts.load(weights, model, like)

One file per format: keras_h5.py, torch_zip.py (safetensors is the library's own); files.py tells
them apart. layouts.py knows which names a model has in which format, fitting.py fits and reports.
No code in a file is ever run. `python -m fexpr.weights inspect FILE`.
"""
