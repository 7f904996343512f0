"""Weights of other libraries: one file a family, and what they have in common.

    layers.py              a layer as plain arrays; folds gamma and the images' normalization
    stored.py              what a reader gives: arrays, and what the file says besides
    formats.py             which kind of file it is, by its content
    slim_files.py          slim's checkpoints, archives, SavedModels, frozen graphs; facenet's
    object_names.py        names of variables in SavedModels and checkpoints of tf.train.Checkpoint
    keras_applications.py  Keras Applications' Inception nets and ResNets, deepface's facenet
    torch_family.py        timm's, torchvision's and facenet-pytorch's nets
    resnet_names.py        names of the layers of ResNets and Inception-v1 there
    facenet_names.py       of Inception-ResNet-v1 in Keras
    others.py              what is no weights of a net: what it is and what to do
    fid.py                 the network of FID, in its graph of 2015 and in PyTorch's file
    conversion.py          reads any of them, fills a model, writes
    description.py         says what was read and what became of it

The way is always the same: file -> {the library's name: array} -> {our scope: Layer} -> variables.
No array is dropped in silence: it is used, left out by a rule that is named, or an error.
"""
