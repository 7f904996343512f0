"""Names that several rooms share, without an import: of files, and of variables in checkpoints."""

# In a train_dir.
CONFIG_FILE = 'config.json'
CONFIG_SUFFIX = '.json'  # of its copy that goes with a checkpoint: model.ckpt-1000.json
CALIBRATION_SUFFIX = '.calibration.json'  # of what calibrate found out of a checkpoint
METRICS_FILE = 'metrics.jsonl'
EVENTS_FILE = 'history.jsonl'
TRACKER_FILE = 'tracker.json'  # ids of the run in what --log names
BEST_FOLDER = 'best'
EVAL_FOLDER = 'eval'

# In an eval_dir.
EVALUATIONS_FILE = 'evaluations.jsonl'
EVALUATION_METRICS_FILE = 'metrics.json'  # also in BEST_FOLDER

# In an exported folder.
EXPORT_FILE = 'export.json'
VERIFICATION_FILE = 'verification.json'  # beside it, or beside the folders of several exports

# Variables of a checkpoint that belong to the run rather than to the net.
GLOBAL_STEP = 'global_step'
INPUT_POSITION = 'input_position'
TRAINED_IMAGES = 'trained_images'
LOSS_SCALE = 'loss_scale'
LOSS_SCALE_GOOD_STEPS = 'loss_scale_good_steps'
OVERFLOW_STEPS = 'overflow_steps'
