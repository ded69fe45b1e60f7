"""Tests of Keras that cannot hold for a Distiller: part of the name, and why."""

LAYER_LOSSES = (
    "under JAX a student's own `compute_loss` does not see what its layers add to the "
    "loss: Keras hands that to the trained model alone. The total has it"
)
BY_DESIGN: dict[str, str] = {
    "test_callbacks_can_update_state_at_batch_boundary": (
        "a callback's `self.model` is the Distiller, `self.model.student` the student"
    ),
    "test_model_checkpoint_loading": (
        "`ModelCheckpoint` keeps the Distiller with the numbers of its losses, and "
        "`callbacks.StudentCheckpoint` the student"
    ),
    "test_retracing": (
        "a student's own `train_step` is refused: a Distiller's step takes its place"
    ),
    "test_fwd_pass_loss_presence_in_compute_loss": LAYER_LOSSES,
    "test_evaluate_with_custom_compute_loss": LAYER_LOSSES,
    "test_compute_loss_no_training_backwards_compatibility": LAYER_LOSSES,
    "test_model_state_is_current_on_epoch_end": (
        "a student without trainable weights is refused"
    ),
    "test_CSVLogger": "a Distiller logs its losses in addition to the model's own",
    "test_trainer_with_raggeds": "ragged inputs are refused: pad them",
}
