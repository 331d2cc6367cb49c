"""Parts that several slots share.

box_coders               boxes as residuals to anchors or points
losses, center_losses    detection losses; ``centernet_utils`` draws the peaks of heatmaps
pointnet2_modules        set abstraction; ``vector_pool_modules`` vector pooling,
                         ``local_aggregation`` chooses between the two
weighted_batch_norm      rows that each stand for several
channels_last_batch_norm maps on a CPU
row_conv                 convolutions of width 1 on rows
map_layout               how maps lie in memory
places                   coordinates of cells
"""
