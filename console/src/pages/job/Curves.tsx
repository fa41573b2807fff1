import { memo } from "react";
import type { CurvePoint } from "../../api/console";
import { Card } from "../../ui/basics";
import { LineChart } from "../../ui/charts/LineChart";

type Maybe = number | null | undefined;

const pointsOf = (points: CurvePoint[], value: (point: CurvePoint) => Maybe): [number, number][] =>
  points.flatMap((point) => {
    const found = value(point);
    return found == null || !Number.isFinite(found) ? [] : [[point.step, found] as [number, number]];
  });

/** The losses and the learning rate over the steps. */
export const Curves = memo(function Curves({
  points,
  totalSteps,
  isLive,
}: {
  points: CurvePoint[];
  totalSteps: Maybe;
  isLive: boolean;
}) {
  const training = pointsOf(points, (point) => point.loss);
  const validation = pointsOf(points, (point) => point.evalLoss);
  const rate = pointsOf(points, (point) => point.learningRate);
  const most = totalSteps ?? undefined;
  if (training.length + validation.length === 0) return null;
  return (
    <div className={rate.length > 0 ? "columns curves" : "curves"}>
      <Card title="Loss" note={isLive ? "live" : undefined}>
        <LineChart
          label="Loss"
          across="Step"
          mostAcross={most}
          lines={[
            { name: "Training", look: "main", points: training },
            { name: "Validation", look: "second", points: validation },
          ]}
        />
      </Card>
      {rate.length > 0 && (
        <Card title="Learning rate">
          <LineChart
            label="Learning rate"
            across="Step"
            mostAcross={most}
            fromZero
            lines={[{ name: "Learning rate", look: "main", points: rate }]}
          />
        </Card>
      )}
    </div>
  );
});
