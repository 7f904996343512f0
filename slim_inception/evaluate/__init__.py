"""What a checkpoint is worth: right answers counted, images of them.

From records to probabilities; classify, embed, fid and export use these too:

    views.py               the crops of an image; dense.py, all of it at once
    predictor.py           records to probabilities, for one net or an ensemble
    scorer.py              one net: views to scores
    stored_weights.py      its weights, of any kind of file
    batch_norm_statistics.py   estimated anew
    label_spaces.py        between labels of a data set and outputs of a net

slim-inception eval:

    config.py              flags, and what the config.json of a run says
    run.py                 from flags to files; following.py and during_training.py, of a run
    evaluator.py           every image of a split once
    examples.py            the records, shared by the workers; collector.py, what they bring back
    ground_truth.py        other labels than the records'
    metrics.py             the figures
    results.py, report.py, image_grid.py   tables, the page, the sheet of images

Probabilities that mean what they say (slim-inception calibrate):

    calibrate_config.py, calibrate.py, stored_calibration.py
    calibration.py         temperature and abstention; conformal.py, sets of labels

Beside each other (slim-inception compare, report and robustness):

    comparison.py, comparison_plot.py   runs
    paired.py                           two evaluations, image by image
    run_report.py                       a run as a page
    robustness_config.py, robustness.py, robustness_table.py
    curves.py, rate_plot.py, page_plots.py, pages.py   what plots and pages share
"""
