//! From the tensor that a forward pass ends with to what the sampler asked for, with as few copies as that takes.

use candle_core::{D, DType, Result, Storage, Tensor};

use crate::backend::{Logits, Want};

/// Answers with the best token, or with the row. A row without a finite logit has no best token: it is answered whole, so
/// that the sampler can say so.
pub fn answer(logits: &Tensor, want: Want) -> Result<Logits> {
    if want == Want::Nothing {
        return Ok(Logits::Nothing);
    }
    // Neither copies where there is nothing to do.
    let row = logits.flatten_all()?.to_dtype(DType::F32)?;
    if want == Want::Best
        && let Some(id) = best(&row)?
    {
        return Ok(Logits::Best(id));
    }
    Ok(Logits::Row(row.to_vec1::<f32>()?))
}

/// The same for a pass of several rows. The best token of each is found where the logits are; a whole row travels only where
/// it is asked for.
pub fn answers(logits: &Tensor, wants: &[Want]) -> Result<Vec<Logits>> {
    if wants.iter().all(|want| *want == Want::Nothing) {
        return Ok(vec![Logits::Nothing; wants.len()]);
    }
    let table = logits.to_dtype(DType::F32)?.reshape((wants.len(), ()))?;
    let best: Vec<(u32, f32)> = if wants.contains(&Want::Best) {
        let ids = table.argmax(D::Minus1)?;
        let highest = table.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?;
        ids.to_vec1::<u32>()?.into_iter().zip(highest.to_vec1::<f32>()?).collect()
    } else {
        Vec::new()
    };
    let answer = |(row, want): (usize, &Want)| match (want, best.get(row)) {
        (Want::Nothing, _) => Ok(Logits::Nothing),
        (Want::Best, Some((id, logit))) if logit.is_finite() => Ok(Logits::Best(*id)),
        // Also where no best one could be told: the sampler says so, or finds it.
        _ => Ok(Logits::Row(table.get(row)?.to_vec1()?)),
    };
    wants.iter().enumerate().map(answer).collect()
}

/// The highest finite logit's token, read in place; the first of equals.
fn best(row: &Tensor) -> Result<Option<u32>> {
    let (storage, layout) = row.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else { return Ok(None) };
    let row = &storage.as_slice::<f32>()?[from..to];
    let (mut best, mut highest) = (None, f32::NEG_INFINITY);
    for (id, logit) in row.iter().enumerate() {
        if *logit > highest && logit.is_finite() {
            (best, highest) = (Some(id), *logit);
        }
    }
    Ok(best.and_then(|id| u32::try_from(id).ok()))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, 1, values.len()), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_best_token_is_the_first_of_the_highest_finite_ones() {
        let best = |values: &[f32]| answer(&row(values), Want::Best).unwrap();
        assert_eq!(best(&[0.5, 2.0, -1.0, 2.0]), Logits::Best(1));
        assert_eq!(best(&[f32::NAN, f32::INFINITY, -3.0, f32::NEG_INFINITY]), Logits::Best(2));
        assert!(matches!(best(&[f32::NAN, f32::NAN]), Logits::Row(_)), "the sampler says that no logit is finite");
    }

    #[test]
    fn each_row_of_a_pass_is_answered_as_it_was_asked() {
        let table = [[0.5, 2.0, -1.0], [3.0, 2.0, 1.0], [f32::NAN, f32::NAN, f32::NAN], [0.0, 1.0, 9.0]];
        let table = Tensor::new(&table, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let answered = answers(&table, &[Want::Best, Want::Row, Want::Best, Want::Nothing]).unwrap();
        assert_eq!((&answered[0], &answered[1]), (&Logits::Best(1), &Logits::Row(vec![3.0, 2.0, 1.0])));
        assert!(matches!(&answered[2], Logits::Row(row) if row.iter().all(|logit| logit.is_nan())));
        assert_eq!(answered[3], Logits::Nothing);
        let half = table.to_dtype(DType::F16).unwrap();
        assert_eq!(answers(&half, &[Want::Row; 4]).unwrap()[3], Logits::Row(vec![0.0, 1.0, 9.0]));
        assert_eq!(answers(&table, &[Want::Nothing; 4]).unwrap(), vec![Logits::Nothing; 4]);
    }

    #[test]
    fn a_row_of_half_the_width_is_answered_in_full_and_a_part_of_a_tensor_alone() {
        let half = row(&[0.5, 2.0, -1.0]).to_dtype(DType::F16).unwrap();
        assert_eq!(answer(&half, Want::Row).unwrap(), Logits::Row(vec![0.5, 2.0, -1.0]));
        let part = row(&[9.0, 0.5, 2.0, -1.0]).narrow(2, 1, 3).unwrap();
        assert_eq!(answer(&part, Want::Best).unwrap(), Logits::Best(1));
        assert_eq!(answer(&part, Want::Nothing).unwrap(), Logits::Nothing);
    }
}
