//! Cuts a matrix of results into the pieces that threads write.

/// Cuts each row every `tile` columns and returns, for each range of columns, its piece of every
/// row.
pub(crate) fn columns<'a>(
    rows: impl ExactSizeIterator<Item = &'a mut [f32]>,
    width: usize,
    tile: usize,
) -> Vec<Vec<&'a mut [f32]>> {
    let count = rows.len();
    let mut tiles: Vec<_> = (0..width.div_ceil(tile))
        .map(|_| Vec::with_capacity(count))
        .collect();
    for row in rows {
        for (tile, piece) in tiles.iter_mut().zip(row.chunks_mut(tile)) {
            tile.push(piece);
        }
    }
    tiles
}
