"""What a study comes to: the recommendation, the summary, the files of the output folder, what can be deployed.

It reads finished records; it launches and measures nothing, and writes no page or chart itself (`results` does).
Public are `recommendation.recommend`, `summary.summarise`, `folder.write_outputs` and `deployable.deployables`.
"""
