/** Where chance comes from: the system's in production, a seed's in the simulator. */
export interface Random {
  /** An integer from 0 to `below` − 1; `below` at most 2^48. */
  integer(below: number): number;
}

/** sfc32 (Chris Doty-Humphrey's PractRand): small, fast, passes its tests; not for secrets. */
export function seededRandom(seed: number): Random {
  let a = 0x9e3779b9 | 0;
  let b = 0x243f6a88 | 0;
  let c = (seed ^ 0xb7e15162) | 0;
  let counter = Math.floor(seed / 2 ** 32) | 1;
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return sum >>> 0;
  };
  for (let round = 0; round < 12; round++) next();
  return {
    integer: (below) => (below <= 2 ** 32 ? Math.floor((next() / 2 ** 32) * below) : (next() % 2 ** 16) * 2 ** 32 + next()) % below,
  };
}
