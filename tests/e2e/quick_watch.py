"""The program, with delays and settle times that a test can wait for."""

from dna_pipeline.__main__ import main
from dna_pipeline.operations.daemon import config_watch
from dna_pipeline.operations.daemon.notifications import delivery, retries

if __name__ == "__main__":
    retries.DELAYS_S = (0.3, 0.6, 1.0)
    delivery.PAUSE_S = 0.1
    config_watch.LOOK_S = 0.1
    config_watch.SETTLE_S = 0.5
    config_watch.INVALID_SETTLE_S = 1.5
    main()
