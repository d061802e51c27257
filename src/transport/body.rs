//! Body codecs and digests.
