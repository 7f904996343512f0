"""Synchronous training: configuration, input, optimizers, the step and the loop.

Configuration:

    flag_groups.py         the flags; recipes/, their defaults
    config.py              recipe, file and flags in one; config_json.py, what a run writes of it

A run from its flags to its end:

    trainer.py             puts together what is below
    plan.py                steps, sizes and counters; image_sizes.py, sizes that change
    start.py               where it starts; resumption.py, --resume_from
    run_input.py           records and batches; augmentation.py, what is done to images
    train_state.py         the variables
    stages.py              what the steps of one size take
    loop.py                step after step

The step:

    train_step.py          forward, backward, sum, update
    losses.py              losses and accuracies; distillation.py, with a teacher
    optimizers.py, schedules.py
    passes.py              smaller passes where memory runs out; batch_size.py, --batch_size=auto

Between steps:

    save_trigger.py        when to save or stop; checkpoint_manager.py, which checkpoints stay
    recovery.py            a loss that is not finite
    evaluation_history.py  the best checkpoint, early stopping
    progress.py            the log, metrics.jsonl and TensorBoard; trackers.py, other services
    events.py              history.jsonl; description.py, what a run says at its start
    rate_finder.py         --find_learning_rate
"""
