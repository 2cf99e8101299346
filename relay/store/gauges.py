"""What the store measures of itself."""

from __future__ import annotations

from relay import metrics

COMMIT_SECONDS = metrics.histogram("store_commit_seconds", "Seconds of one group commit, from BEGIN to durable")
FSYNC_SECONDS = metrics.histogram("store_fsync_seconds", "Seconds in which one group commit went to disk: COMMIT, with the bodies before it on SQLite")
BATCH = metrics.histogram("store_commit_batch_size", "Writes in one group commit", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500))
FSYNC_ERRORS = metrics.counter("store_fsync_errors_total", "Commits that failed because the disk did")
REPLAYS = metrics.counter("store_replays_total", "Batches replayed one write at a time because one of them failed")
WAITING = metrics.gauge("store_waiting", "Writes waiting for their commit")
BYTES = metrics.gauge("store_bytes", "Bytes of the database and the body segments")
READS_WAITING = metrics.gauge("executor_queue_depth", "Work that waits for a thread of the pool", "pool")
WAL_BYTES = metrics.gauge("store_wal_bytes", "Bytes of SQLite's write-ahead log")
FREE_BYTES = metrics.gauge("disk_free_bytes", "Bytes free where data_dir is", "path")
FREE_RATIO = metrics.gauge("disk_free_ratio", "Part of the file system of data_dir that is free for us, 0 to 1", "path")
FREE_INODES = metrics.gauge("disk_free_inodes", "Files that can still be made where data_dir is", "path")
HEALTHY = metrics.gauge("store_healthy", "1 while the last commit worked")
SHED = metrics.gauge("load_shed_active", "1 while new mail is refused for this reason", "reason")
