/** Numbers as people read them. Pure. */
import { METRICS, type Metric } from '../model.js';
import type { Row } from '../must-reach.js';
import { relativeSpread, type Spread } from '../stats.js';

/** `12.30 ±4 %`: median, and half of the interquartile range as a share of it. */
export function formatSpread(metric: Metric, spread: Spread): string {
  const { digits } = METRICS[metric];
  return `${spread.median.toFixed(digits)}${formatHalfRange(spread)}`;
}

function formatHalfRange(spread: Spread): string {
  const half = (relativeSpread(spread) / 2) * 100;
  return spread.count > 1 && Number.isFinite(half) ? ` ±${half.toFixed(0)} %` : '';
}

function formatBound(row: Row, bound: number): string {
  const sign = row.better === 'more' ? '≥' : '≤';
  return `${sign} ${formatNumber(bound)} ${row.unit}`;
}

export function formatFloor(row: Row): string {
  return formatBound(row, row.floor);
}

export function formatAim(row: Row): string {
  return row.aim === undefined ? '–' : formatBound(row, row.aim);
}

export function formatValue(row: Row): string {
  return row.spread ? `${formatNumber(row.spread.median)} ${row.unit}${formatHalfRange(row.spread)}` : '–';
}

/** Three significant digits, no exponent. */
export function formatNumber(value: number): string {
  if (value === 0) return '0';
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(4, Math.max(0, 2 - magnitude)));
}
