/** Bounds that more than one folder keeps; each says what happens there. Bounds of one module stand in that module. */

/** Largest entry of the stream, in bytes. A larger transaction is refused with SQLITE_TOOBIG (design.md §2). */
export const entryBytesMax = 64 * 1024 * 1024;

/** Frame size on loopback, in bytes: one datagram, below lo's MTU of 64 KiB and cheap to lose (design.md §4). */
export const loopbackFrameBytesMax = 8 * 1024;

/** Frame size on a network, in bytes: below Ethernet's 1,500 less IP, UDP and tunnels. */
export const networkFrameBytesMax = 1400;

/** Sort keys longer than this are a prefix and a hash: LMDB's keys end at 1,978 bytes (design.md §5). */
export const sortKeyBytesMax = 1024;
