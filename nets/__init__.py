"""The Inception family as tables of blocks, the layers beneath, and Model around them.

To look for a net by name, and to make one:

    nets_factory.py        create_model, and slim's get_network_fn
    registry.py            all nets by name; net.py says what is known of one
    names.py               their names alone, without TensorFlow
    inception.py           slim's functions of the Inception nets in one namespace

A net, and what it is written in:

    inception_v1.py, inception_v2.py, inception_v3.py, inception_v4.py, inception_resnet_v1.py,
    inception_resnet_v2.py, resnet_v1.py, resnet_v1_5.py, resnet_v2.py
                           each has its table, its head, slim's functions and its `Net`
    inception_v3_2015.py   the network of FID
    blocks.py              the vocabulary of the tables: cells, branches, units
    inception_parts.py     blocks that several Inception nets have
    heads.py               what follows the body, and the auxiliary classifiers
    inception_utils.py, resnet_utils.py   arg scopes, and what a family shares
    build.py               units become tensors
    geometry.py            sizes of images and features
    summary.py             shapes, parameters and multiply-adds of a table

Layers, as slim's:

    layers.py              convolutions, pools, dropout, ...; batch_norm.py, convolution.py
    layer_support.py       variables, collections and sizes, for every layer
    slim.py                all that is used of tf-slim; slim_fallback.py, if tf-slim breaks
    recompute.py           what is computed again for the gradient rather than kept
    replicas.py            sums over replicas, and one trace for all of them
    processor.py           which kernels TensorFlow takes on this processor

Models, for TF2, and their weights:

    model.py               NetModule and Model; feature_pyramid.py, a net without head
    config.py              how a model was made; model_inputs.py, what it is called with
    initial_values.py      first values of variables, drawn beside other work
    checkpoints.py         reading and writing by slim's names; checkpoint_files.py, finding them
    folding.py             batch norm into the weights before it
    convert/               weights of other libraries
    catalogue.py           papers and released checkpoints
"""

from pathlib import Path as _Path

if __name__ == 'nets' and (_Path(__file__).resolve().parents[1] / 'slim_inception').is_dir():
  from slim_inception import _alias  # a checkout, slim's idiom: `from nets import ...`

  _alias.install(__name__, __file__)
