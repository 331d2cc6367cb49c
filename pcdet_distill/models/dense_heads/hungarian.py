"""The assignment of objects to predictions with the smallest total cost (Kuhn's Hungarian method).

The version with shortest augmenting paths: objects come one after the other, and each takes the
cheapest chain of reassignments that ends at a free prediction. Prices of objects and predictions
keep all reduced costs at or above zero, so that Dijkstra's algorithm finds the chain.
"""

from __future__ import annotations

import numpy as np


def assign(costs: np.ndarray) -> np.ndarray:
    """The prediction of every object.

    Args:
        costs: (G, P) of giving object g prediction p; G <= P.

    Returns:
        (G,) int64, no prediction twice.
    """
    num_objects, num_predictions = costs.shape
    if num_objects > num_predictions:
        raise ValueError(f"{num_objects} objects for {num_predictions} predictions")
    costs = np.nan_to_num(costs.astype(np.float64), nan=1e6, posinf=1e6, neginf=-1e6)
    object_price = np.zeros(num_objects)
    prediction_price = np.zeros(num_predictions)
    holder = np.full(num_predictions, -1)  # the object that holds a prediction
    for new_object in range(num_objects):
        _insert(new_object, costs, object_price, prediction_price, holder)
    assigned = np.zeros(num_objects, dtype=np.int64)
    taken = np.nonzero(holder >= 0)[0]
    assigned[holder[taken]] = taken
    return assigned


def _insert(
    new_object: int,
    costs: np.ndarray,
    object_price: np.ndarray,
    prediction_price: np.ndarray,
    holder: np.ndarray,
) -> None:
    """Give a prediction to one more object, and let others move to where that is cheapest."""
    num_predictions = costs.shape[1]
    distance = np.full(num_predictions, np.inf)
    came_from = np.full(num_predictions, -1)  # the prediction before it on the chain
    is_done = np.zeros(num_predictions, dtype=bool)
    current = new_object
    last = -1
    length = 0.0
    while True:
        reduced = costs[current] - object_price[current] - prediction_price
        candidate = np.where(is_done, np.inf, length + reduced)
        shorter = candidate < distance
        distance[shorter] = candidate[shorter]
        came_from[shorter] = last
        last = int(np.argmin(np.where(is_done, np.inf, distance)))
        length = distance[last]
        if holder[last] < 0:
            break
        is_done[last] = True
        current = holder[last]
    object_price[holder[is_done]] += length - distance[is_done]
    prediction_price[is_done] -= length - distance[is_done]
    object_price[new_object] += length
    while last >= 0:
        before = came_from[last]
        holder[last] = holder[before] if before >= 0 else new_object
        last = before
