"""The life of jobs: accepting, handing over, tracking, telling. Only this package changes a job."""
