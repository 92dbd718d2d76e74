"""Predictions of several batches are gathered in the order of the cases."""

import torch

from baa.metrics.predictions import Gathered, Predictions


def test_gathered_predictions_are_in_the_order_of_the_cases_and_keep_nan():
    gathered = Gathered()
    for case, months in (([2, 0], [9.0, 7.0]), ([1], [8.0])):
        unknown = torch.full((len(case), 2, 4), torch.nan)
        gathered.update(torch.tensor(case), Predictions(torch.tensor(months), unknown, unknown[:, 0, :2]))
    found = gathered.compute()

    assert found.months.tolist() == [7.0, 8.0, 9.0]
    assert found.gt_boxes.shape == (3, 2, 4)
    assert found.capitate.isnan().all()
    assert found.boxes is None
