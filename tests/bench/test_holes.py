"""holes.py on traces made by hand."""

import unittest

import holes


def host(ts, dur):
    return {"ph": "X", "cat": "user_annotation", "name": "step", "ts": ts, "dur": dur}


def launch(ts, correlation):
    return {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": ts, "dur": 1, "args": {"correlation": correlation}}


def kernel(ts, dur, correlation, name="kernel"):
    return {"ph": "X", "cat": "kernel", "name": name, "ts": ts, "dur": dur, "args": {"correlation": correlation}}


class Holes(unittest.TestCase):
    def test_a_hole_is_found_with_its_neighbours_and_counted_once(self):
        # The host runs ahead: step 1 is launched at 10 and runs from 100; two streams overlap; idle 160 to 180.
        events = [host(0, 9), launch(1, 1), host(10, 9), launch(11, 2), host(20, 9), launch(21, 3),
                  kernel(5, 90, 1), kernel(100, 50, 2, "a"), kernel(120, 40, 2, "b"), kernel(180, 20, 2, "c"), kernel(200, 100, 3)]
        steps = holes.analyse(events)
        self.assertEqual([step["step_us"] for step in steps], [100, 100])
        self.assertEqual(steps[0]["longest_hole_us"], 20)
        self.assertAlmostEqual(steps[0]["longest_hole_share"], 0.2)
        self.assertEqual((steps[0]["before"], steps[0]["after"]), ("b", "c"))
        self.assertEqual(steps[0]["idle_us"], 20)
        self.assertEqual(steps[1]["idle_us"], 0)

    def test_the_gap_between_two_steps_belongs_to_the_first_of_them(self):
        events = [host(0, 9), launch(1, 1), host(10, 9), launch(11, 2), host(20, 9), launch(21, 3),
                  kernel(5, 5, 1), kernel(20, 30, 2, "a"), kernel(70, 30, 3, "b")]
        steps = holes.analyse(events)
        self.assertEqual(steps[0]["step_us"], 50)
        self.assertEqual(steps[0]["longest_hole_us"], 20)
        self.assertEqual(steps[0]["after"], "(next step)")

    def test_a_trace_without_a_gpu_has_no_steps(self):
        self.assertEqual(holes.analyse([host(0, 9), host(10, 9)]), [])


if __name__ == "__main__":
    unittest.main()
