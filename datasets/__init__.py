"""Data sets as TFRecords: schema, converters, and the factory that finds them by name.

Records, and what is known of a set of them:

    dataset_factory.py     data sets by name: where training and evaluation begin
    records.py             one image as a tf.train.Example; shards.py, files of records
    dataset_info.py        dataset.json; record_index.py and record_listing.py, what is in records
    verification.py        reads all of a set again
    record_filter.py       copies without excluded images; joined.py, several sets as one
    source_records.py      images where records are expected: converted once

A conversion:

    conversion.py          what all converters share: plan, shards, report, resuming
    shard_job.py           one shard; runners.py, who runs the jobs
    images.py              the one reader of image files, and what becomes of them
    duplicates.py, exclude_list.py, holdout.py    what is left out or held out

Data sets with a module of their own:

    imagenet.py, imagenet_boxes.py, evaluation_sets.py, packed_sets.py    ImageNet and its sisters
    flowers.py, cifar.py, mnist.py, digits.py, download.py

Formats, each of which gives a listing that becomes a plan:

    formats.py             which format a source is
    listing.py             from a listing to a plan; label_files.py, names of classes
    image_folder.py, folder_layout.py             a folder for each class
    manifest.py, json_entries.py                  CSV and JSON
    webdataset.py, samples.py                     tars
    huggingface.py, columns.py, parquet.py, parquet_pages.py, snappy.py, arrow.py
    tfds.py, array_records.py                     TensorFlow Datasets
    mds.py                                        MosaicML's streaming
    tables.py              what files of rows share; varints.py, their numbers

Where bytes are:

    sources.py             walks folders and archives; source.py, the bytes of one file
    trees.py               folders and archives, looked at alike; tars.py, zips.py
    files.py               writing whole or not at all; folder_lock.py, one writer a folder
    typed.py               JSON as types; progress_bar.py
"""

from pathlib import Path as _Path

if __name__ == 'datasets' and (_Path(__file__).resolve().parents[1] / 'slim_inception').is_dir():
  from slim_inception import _alias  # a checkout, slim's idiom: `from datasets import ...`

  _alias.install(__name__, __file__)
