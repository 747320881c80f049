-- What version 1 of the file was, and one circuit in it.
CREATE TABLE circuits (
    tenant       TEXT    NOT NULL CHECK (length(tenant) BETWEEN 1 AND 64),
    digest       BLOB    NOT NULL CHECK (length(digest) = 32),
    name         TEXT,
    curve        TEXT    NOT NULL,
    domain_size  INTEGER NOT NULL CHECK (domain_size >= 0),
    public_count INTEGER NOT NULL CHECK (public_count >= 0),
    wires        INTEGER NOT NULL CHECK (wires >= 0),
    bytes        INTEGER NOT NULL CHECK (bytes >= 0),
    development  INTEGER NOT NULL CHECK (development IN (0, 1)),
    check_level  TEXT    NOT NULL CHECK (check_level IN ('full', 'trusted')),
    checked_at   INTEGER          CHECK (checked_at >= 0),
    state        TEXT    NOT NULL CHECK (state IN ('checking', 'ready', 'failed')),
    failure      TEXT             CHECK ((failure IS NOT NULL) = (state = 'failed')),
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;
PRAGMA application_id = 1128352836;
PRAGMA user_version = 1;
INSERT INTO circuits VALUES ('alice', randomblob(32), 'semaphore-32', 'bn128', 16384, 4, 12000, 9000000,
    0, 'full', 7, 'ready', NULL);
