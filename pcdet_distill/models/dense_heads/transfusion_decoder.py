"""The decoder layer of TransFusion: queries look at each other, then at the whole map.

Positions are embedded by two layers and added to queries, keys and values alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...config import lookup
from ...errors import ConfigError

ACTIVATIONS = {"relu": torch.relu, "gelu": nn.functional.gelu}


class PositionEmbedding(nn.Module):
    """(B, N, 2) positions to (B, C, N) features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position_embedding_head = nn.Sequential(
            nn.Conv1d(2, channels, 1),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, positions: Tensor) -> Tensor:
        """Embed x and y."""
        return self.position_embedding_head(positions.transpose(1, 2).contiguous())


class TransFusionDecoder(nn.Module):
    """Self attention, attention to the map, and a feed-forward network, each with a shortcut.

    Args:
        channels: of queries and map.
        num_heads: of the attentions.
        feed_forward_channels: hidden channels of the feed-forward network.
        dropout: probability, in training.
        activation: of the feed-forward network.
    """

    def __init__(
        self,
        *,
        channels: int,
        num_heads: int,
        feed_forward_channels: int,
        dropout: float,
        activation: str,
    ) -> None:
        super().__init__()
        where = "MODEL.DENSE_HEAD"
        if channels % num_heads:
            raise ConfigError(
                f"{where}.HIDDEN_CHANNEL is {channels}, expected a multiple of NUM_HEADS, "
                f"{num_heads}"
            )
        self.activation = lookup(ACTIVATIONS, activation, f"{where}.ACTIVATION")
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout=dropout)
        self.multihead_attn = nn.MultiheadAttention(channels, num_heads, dropout=dropout)
        self.linear1 = nn.Linear(channels, feed_forward_channels)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(feed_forward_channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.dropout3 = nn.Dropout(dropout)
        self.self_posembed = PositionEmbedding(channels)
        self.cross_posembed = PositionEmbedding(channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier's weights for all matrices."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, queries: Tensor, keys: Tensor, query_places: Tensor, key_places: Tensor
    ) -> Tensor:
        """Queries after the layer.

        Args:
            queries: (B, C, P).
            keys: (B, C, cells) features of the map.
            query_places: (B, P, 2) x and y, in cells.
            key_places: (B, cells, 2).

        Returns:
            (B, C, P).
        """
        # nn.MultiheadAttention takes (places, B, C).
        query_embedding = self.self_posembed(query_places).permute(2, 0, 1)
        key_embedding = self.cross_posembed(key_places).permute(2, 0, 1)
        queries = queries.permute(2, 0, 1)
        placed = queries + query_embedding
        seen, _ = self.self_attn(placed, placed, value=placed, need_weights=False)
        queries = self.norm1(queries + self.dropout1(seen))
        placed_keys = keys.permute(2, 0, 1) + key_embedding
        seen, _ = self.multihead_attn(
            queries + query_embedding, placed_keys, value=placed_keys, need_weights=False
        )
        queries = self.norm2(queries + self.dropout2(seen))
        hidden = self.dropout(self.activation(self.linear1(queries)))
        queries = self.norm3(queries + self.dropout3(self.linear2(hidden)))
        return queries.permute(1, 2, 0)
