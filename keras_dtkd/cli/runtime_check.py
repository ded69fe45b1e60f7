"""Reads an exported network in a process of its own, as its user would.

`python -m keras_dtkd.cli.runtime_check FORMAT PATH INPUTS.npy OUTPUTS.npy`
"""

import sys

import keras
import numpy as np


def saved_model(path, x):
    """Under TensorFlow."""
    layer = keras.layers.TFSMLayer(path, call_endpoint="serve")
    return keras.ops.convert_to_numpy(layer(x))


def keras_file(path, x):
    """Under any backend."""
    return keras.saving.load_model(path, compile=False).predict(x, verbose=0)


def onnx(path, x):
    """By ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def litert(path, x):
    """By LiteRT, image by image: its shapes are fixed."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    (given,), (told,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    found = []
    for image in x:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(told["index"])[0])
    return np.stack(found)


READERS = {
    "keras": keras_file,
    "tf_saved_model": saved_model,
    "onnx": onnx,
    "litert": litert,
}

if __name__ == "__main__":
    which, source, inputs, outputs = sys.argv[1:]
    np.save(outputs, np.asarray(READERS[which](source, np.load(inputs)), "float32"))
