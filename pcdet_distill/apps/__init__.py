"""Programs built on the library, each a subcommand of ``pcdet-distill``.

quickstart        the first tour: simulate, train a teacher and two students, compare them
study             recipes compared over several seeds
doctor            what is wrong with data and yaml
create_data       ``data``: its subcommands are ``synthetic_data``, ``custom_data``,
                  ``nuscenes_data``, ``argoverse2_data``, ``tri3d_data``, and KITTI's in itself
run_report        ``report RUN [OTHER]``
distill_pictures  ``report --distill``
view              ``view``: clouds and boxes in a browser
tools             calls the scripts of tools/, in a checkout and in an installed package
"""
